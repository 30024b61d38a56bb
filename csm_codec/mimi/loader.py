"""Loads Mimi into the network of the moshi package (github.com/kyutai-labs/moshi), strictly, from any of three places:

* `NAME.safetensors`: kyutai's checkpoint, of the published sizes;
* a folder whose config.json has moshi's keys (sample_rate, channels, frame_rate, seanet, transformer, quantizer), with
  `model.safetensors`: the same file in other sizes;
* a folder whose config.json is the transformers library's, of a Mimi or of a CSM that holds one, with one
  safetensors file or shards (transformers_layout.py).

It neither decodes nor encodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from moshi.models.compression import MimiModel
from moshi.models.loaders import get_mimi

from csm_bundle.checked_json import read_config
from csm_bundle.codec_identity import MIMI, CodecIdentity
from csm_bundle.errors import CheckpointError
from csm_bundle.safetensors_files import read_tensors, tensors_digest, weights_digest
from csm_bundle.state_dict import check_state
from csm_codec.mimi.transformers_layout import CODEC_PREFIX, moshi_config, needed_tensors, to_moshi

PUBLISHED_CODEBOOKS = 32

# In order of preference. sesame/csm-1b carries the first one beside Sesame's own layout, which holds no codec.
TRANSFORMERS_WEIGHTS = (
    "transformers.safetensors.index.json",
    "model.safetensors.index.json",
    "model.safetensors",
)

# The errors that a value of a wrong type or size raises.
_NO_MIMI = (TypeError, ValueError, AttributeError, ZeroDivisionError)

# The published file keeps the names of earlier modules: (theirs, ours).
_OLD_NAMES = (
    (re.compile(r"\.self_attn\.in_proj(_weight|\.weight)$"), ".self_attn.in_projs.0.weight"),
    (re.compile(r"\.self_attn\.out_proj\.weight$"), ".self_attn.out_projs.0.weight"),
    (re.compile(r"\._codebook\.inited$"), "._codebook._initialized"),
    (re.compile(r"\._codebook\.cluster_size$"), "._codebook.cluster_usage"),
    (re.compile(r"\._codebook\.embed_(avg|sum)$"), "._codebook.embedding_sum"),
)


@dataclass(frozen=True, slots=True)
class Mimi:
    """The loaded network in eval mode, and what its codes belong to."""

    model: MimiModel
    identity: CodecIdentity


def load_mimi(path: Path, *, device: str | torch.device = "cpu") -> Mimi:
    """Loads a checkpoint in fp32.

    Raises CheckpointError naming the file and the first missing, unexpected or misshaped key, or what is wrong in the
    configuration.
    """
    config = read_config(path / "config.json") if path.is_dir() else None
    if config is not None and "model_type" in config:
        model, digest = _load_transformers(path, config)
    else:
        weights = path if config is None else path / "model.safetensors"
        model, digest = _load_moshi(weights, config), weights_digest(weights)
    model.to(device).requires_grad_(False)
    _fill_codebook_tables(model)
    identity = CodecIdentity(
        name=MIMI,
        weights_digest=digest,
        codebook_count=model.num_codebooks,
        codebook_size=model.cardinality,
        frame_sample_count=model.frame_size,
        sample_rate_hertz=model.sample_rate,
    )
    return Mimi(model, identity)


def _load_moshi(weights: Path, config: dict[str, Any] | None) -> MimiModel:
    model = build_mimi(config, weights.parent)
    state = {_renamed(key): tensor for key, tensor in read_tensors(weights).items()}
    check_state(weights, model.state_dict(), state)
    model.load_state_dict(state)
    return model


def _load_transformers(folder: Path, config: dict[str, Any]) -> tuple[MimiModel, str]:
    """The network, and the digest of its tensors: the files may hold a whole CSM beside it."""
    path, prefix = folder / "config.json", ""
    match config["model_type"]:
        case "mimi":
            values: Any = config
        case "csm":
            values, prefix = config.get("codec_config"), CODEC_PREFIX
        case other:
            raise CheckpointError(f"{path}: model_type is {other!r}; allowed are 'mimi' and 'csm'.")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: codec_config, which describes the Mimi within a CSM, is missing.")
    try:
        moshi = moshi_config(values)
    except KeyError as error:
        raise CheckpointError(f"{path}: key {error} of the Mimi is missing.") from None
    except (CheckpointError, *_NO_MIMI) as error:
        raise CheckpointError(f"{path}: {error}.") from None
    model = build_mimi(moshi, folder)
    weights = _transformers_weights(folder)
    tensors = read_tensors(weights, prefix)
    if not tensors:
        raise CheckpointError(f"{weights}: holds no Mimi: no key begins with {prefix!r}.")
    ours = model.state_dict()
    check_state(weights, needed_tensors(ours), tensors, prefix)
    model.load_state_dict(to_moshi(tensors, ours, values["num_attention_heads"]))
    return model, tensors_digest(tensors)


def _transformers_weights(folder: Path) -> Path:
    for name in TRANSFORMERS_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: holds no weights; one of {', '.join(TRANSFORMERS_WEIGHTS)} is needed.")


def build_mimi(config: dict[str, Any] | None, path: Path) -> MimiModel:
    """The network without weights, with all its codebooks active. config: None for the published sizes.

    path: the folder of the configuration, for messages.
    """
    try:
        num_codebooks = PUBLISHED_CODEBOOKS if config is None else config["quantizer"]["n_q"]
        return get_mimi(None, config, num_codebooks=num_codebooks)
    except KeyError as error:
        raise CheckpointError(f"{path / 'config.json'}: key {error} is missing.") from None
    except (AssertionError, RuntimeError, *_NO_MIMI) as error:
        raise CheckpointError(f"{path / 'config.json'}: describes no Mimi: {error}") from error


def _renamed(key: str) -> str:
    for pattern, name in _OLD_NAMES:
        key = pattern.sub(name, key)
    return key


def _fill_codebook_tables(model: MimiModel) -> None:
    # The package makes these on first use. Two threads must not do that at once.
    for quantizer in (model.quantizer.rvq_first, model.quantizer.rvq_rest):
        for layer in quantizer.vq.layers:
            layer._codebook.embedding  # noqa: B018
