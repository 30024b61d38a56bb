"""Writes a Mimi with seeded random weights in the real file format: a tiny one, or one of the published sizes.

It decodes codes to noise about as loud as speech; different codes give different noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from moshi.models.compression import MimiModel
from safetensors.torch import save_file
from torch import nn

from csm_bundle.codec_identity import CodecIdentity
from csm_codec.mimi.loader import build_mimi, load_mimi

LOUDNESS = 0.07  # rms of what random codes decode to


def tiny_config(
    *, num_codebooks: int = 32, codebook_size: int = 2048, context: int = 250, width: int = 64
) -> dict[str, Any]:
    """A configuration with moshi's keys: 24 kHz and 12.5 frames a second as published, about 200,000 parameters.

    context: attention span in steps of 40 ms.
    """
    return {
        "sample_rate": 24000,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": {
            "channels": 1,
            "dimension": width,
            "causal": True,
            "n_filters": 4,
            "n_residual_layers": 1,
            "activation": "ELU",
            "compress": 2,
            "dilation_base": 2,
            "disable_norm_outer_blocks": 0,
            "kernel_size": 7,
            "residual_kernel_size": 3,
            "last_kernel_size": 3,
            "norm": "none",
            "pad_mode": "constant",
            "ratios": [8, 6, 5, 4],
            "true_skip": True,
        },
        "transformer": {
            "d_model": width,
            "num_heads": 4,
            "num_layers": 2,
            "causal": True,
            "layer_scale": 0.3,
            "context": context,
            "conv_layout": True,
            "max_period": 10000,
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "dim_feedforward": 2 * width,
            "input_dimension": width,
            "output_dimensions": [width],
        },
        "quantizer": {
            "dimension": 8,
            "n_q": num_codebooks,
            "bins": codebook_size,
            "input_dimension": width,
            "output_dimension": width,
        },
    }


def write_tiny_mimi(folder: Path, seed: int, **sizes: int) -> CodecIdentity:
    """Writes `model.safetensors` and `config.json`. sizes: arguments of `tiny_config`."""
    config = tiny_config(**sizes)
    return save_mimi(folder, _random(config, folder, seed), config)


def save_mimi(
    folder: Path, model: MimiModel, config: dict[str, Any], *, dtype: torch.dtype = torch.float32
) -> CodecIdentity:
    """Writes `model.safetensors`, with the published names, and `config.json`. dtype: of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _save(model, folder / "model.safetensors", dtype)
    return load_mimi(folder).identity


def write_published_mimi(path: Path, seed: int) -> None:
    """Writes one file of the published sizes, 385 MB."""
    _save(_random(None, path.parent, seed), path, torch.float32)


def _random(config: dict[str, Any] | None, folder: Path, seed: int) -> MimiModel:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build_mimi(config, folder)
        _fill_weights(model)
        _fill_codebooks(model)
        _set_loudness(model)
    return model


def _save(model: MimiModel, path: Path, dtype: torch.dtype) -> None:
    save_file({_published_name(key): value.to(dtype) for key, value in model.state_dict().items()}, path)


def _fill_weights(model: MimiModel) -> None:
    """Random weights with which signals keep their strength from layer to layer, and small biases."""
    for module in model.modules():
        match module:
            case nn.ConvTranspose1d():
                inputs = module.weight.shape[0] // module.groups * module.kernel_size[0] / module.stride[0]
            case nn.Conv1d() | nn.Linear():
                inputs = module.weight[0].numel()
            case _:
                continue
        module.weight.normal_(std=1.3 / inputs**0.5)
        if module.bias is not None:
            module.bias.normal_(std=0.05)


def _fill_codebooks(model: MimiModel) -> None:
    # Later codebooks hold finer residuals, as in a trained codec.
    for residuals in _codebooks(model):
        for index, codebook in enumerate(residuals):
            codebook._initialized.fill_(1)
            codebook.cluster_usage.uniform_(0.5, 2.0)
            codebook.embedding_sum.normal_(std=0.9**index).mul_(codebook.cluster_usage[:, None])


def _set_loudness(model: MimiModel) -> None:
    """Random codes decode to LOUDNESS, without a constant offset."""
    codes = torch.randint(model.cardinality, (4, model.num_codebooks, 16))
    last = model.decoder.model[-1].conv.conv
    last.bias.zero_()
    last.weight.mul_(LOUDNESS / model.decode(codes).std())
    last.bias.sub_(model.decode(codes).mean())


def _codebooks(model: MimiModel) -> list[list[Any]]:
    """The codebooks of the first quantizer and those of the rest, each from coarse to fine."""
    quantizers: tuple[Any, Any] = (model.quantizer.rvq_first, model.quantizer.rvq_rest)
    return [[layer._codebook for layer in quantizer.vq.layers] for quantizer in quantizers]


def _published_name(key: str) -> str:
    return key.replace("in_projs.0.weight", "in_proj_weight").replace("out_projs.0.weight", "out_proj.weight")
