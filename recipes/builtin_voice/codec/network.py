"""The small Mimi: moshi's classes with their real configuration keys, and the quantizer's codebooks put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from moshi.models.compression import MimiModel

from csm_codec.mimi.loader import build_mimi
from recipes.builtin_voice.codec.quantizer import DIM, Quantizer

WIDTH = 256


def mimi_config(quantizer: Quantizer) -> dict[str, Any]:
    """24 kHz and 12.5 frames a second as published; the transformers run at 100 Hz, where arithmetic is cheap, and two
    transposed convolutions lead from there to samples."""
    return {
        "sample_rate": 24000,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": {
            "channels": 1,
            "dimension": WIDTH,
            "causal": True,
            "n_filters": 32,
            "n_residual_layers": 1,
            "activation": "ELU",
            "compress": 2,
            "dilation_base": 2,
            "disable_norm_outer_blocks": 0,
            "kernel_size": 3,
            "residual_kernel_size": 3,
            "last_kernel_size": 3,
            "norm": "none",
            "pad_mode": "constant",
            "ratios": [8, 30],
            "true_skip": True,
        },
        "transformer": {
            "d_model": WIDTH,
            "num_heads": 4,
            "num_layers": 3,
            "causal": True,
            "layer_scale": 0.3,
            "context": 48,
            "conv_layout": True,
            "max_period": 10000,
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "dim_feedforward": 4 * WIDTH,
            "input_dimension": WIDTH,
            "output_dimensions": [WIDTH],
        },
        "quantizer": {
            "dimension": DIM,
            "n_q": quantizer.num_codebooks,
            "bins": quantizer.bins,
            "input_dimension": WIDTH,
            "output_dimension": WIDTH,
        },
    }


def new_mimi(quantizer: Quantizer, *, seed: int = 0) -> MimiModel:
    """Random networks round the codebooks. The encoder's output begins with the two latents side by side."""
    torch.manual_seed(seed)
    model = build_mimi(mimi_config(quantizer), Path("."))
    quantizers: Any = model.quantizer
    first, rest = quantizers.rvq_first, quantizers.rvq_rest
    with torch.no_grad():
        for projection, start in ((first.input_proj, 0), (rest.input_proj, DIM)):
            projection.weight.zero_()
            projection.weight[:, start : start + DIM, 0] = torch.eye(DIM)
        for layers, entries in ((first.vq.layers, quantizer.first[None]), (rest.vq.layers, quantizer.rest)):
            for layer, codebook in zip(layers, entries, strict=True):
                layer._codebook._initialized.fill_(1)
                layer._codebook.cluster_usage.fill_(1)
                layer._codebook.embedding_sum.copy_(codebook)
    return model
