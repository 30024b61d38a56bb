"""Loads Mimi: kyutai's checkpoint, or a folder with weights of other sizes and the configuration beside them.

The network is that of the moshi package (github.com/kyutai-labs/moshi); this module reads files into it, strictly.
It neither decodes nor encodes.

A part is `NAME.safetensors` with the published sizes, or a folder with `model.safetensors` and `config.json`, whose
keys are those of moshi's own Mimi configuration (sample_rate, channels, frame_rate, seanet, transformer, quantizer).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from moshi.models.compression import MimiModel
from moshi.models.loaders import get_mimi
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from csm_engine.codec.identity import MIMI, CodecIdentity, weights_digest
from csm_engine.codec.state_dict import check_state
from csm_engine.errors import CheckpointError

PUBLISHED_CODEBOOKS = 32

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
    weights, config = path, None
    if path.is_dir():
        weights, config = path / "model.safetensors", _read_config(path / "config.json")
    model = build_mimi(config, path)
    state = {_renamed(key): tensor for key, tensor in _read_weights(weights).items()}
    check_state(weights, model.state_dict(), state)
    model.load_state_dict(state)
    model.to(device).requires_grad_(False)
    _fill_codebook_tables(model)
    identity = CodecIdentity(
        name=MIMI,
        weights_digest=weights_digest(weights),
        codebook_count=model.num_codebooks,
        codebook_size=model.cardinality,
        frame_sample_count=model.frame_size,
        sample_rate_hertz=model.sample_rate,
    )
    return Mimi(model, identity)


def build_mimi(config: dict[str, Any] | None, path: Path) -> MimiModel:
    """The network without weights, with all its codebooks active. config: None for the published sizes."""
    try:
        num_codebooks = PUBLISHED_CODEBOOKS if config is None else config["quantizer"]["n_q"]
        return get_mimi(None, config, num_codebooks=num_codebooks)
    except KeyError as error:
        raise CheckpointError(f"{path / 'config.json'}: key {error} is missing.") from None
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{path / 'config.json'}: describes no Mimi: {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds {type(config).__name__}; an object is needed.")
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def _renamed(key: str) -> str:
    for pattern, name in _OLD_NAMES:
        key = pattern.sub(name, key)
    return key


def _fill_codebook_tables(model: MimiModel) -> None:
    # The package makes these on first use, which two threads must not do at once.
    for quantizer in (model.quantizer.rvq_first, model.quantizer.rvq_rest):
        for layer in quantizer.vq.layers:
            layer._codebook.embedding  # noqa: B018
