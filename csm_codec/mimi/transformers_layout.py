"""Mimi as the transformers library writes it: alone, or within a CSM checkpoint under `codec_model.`. Keys and sizes.

Beside the names, two things differ from moshi's own layout. q, k and v are separate tensors. The rows of q and k are
ordered for a rotary embedding that rotates the two halves of a head, where moshi's rotates neighbouring pairs.
Source: transformers/models/mimi (configuration_mimi.py, modeling_mimi.py), github.com/kyutai-labs/moshi.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from csm_bundle.errors import CheckpointError

CODEC_PREFIX = "codec_model."  # in a CSM checkpoint

_IN_PROJECTION = ".self_attn.in_projs.0.weight"

# (ours, theirs), applied in this order.
_NAMES = (
    (".transformer.layers.", ".layers."),
    (".out_projs.0.", ".o_proj."),
    (".norm1.", ".input_layernorm."),
    (".norm2.", ".post_attention_layernorm."),
    (".layer_scale_1.", ".self_attn_layer_scale."),
    (".layer_scale_2.", ".mlp_layer_scale."),
    (".linear1.", ".mlp.fc1."),
    (".linear2.", ".mlp.fc2."),
    ("encoder.model.", "encoder.layers."),
    ("decoder.model.", "decoder.layers."),
    (".conv.conv.conv.", ".conv."),
    (".convtr.convtr.convtr.", ".conv."),
    (".convtr.convtr.", ".conv."),
    (".conv.conv.", ".conv."),
    (".rvq_first.", ".semantic_residual_vector_quantizer."),
    (".rvq_rest.", ".acoustic_residual_vector_quantizer."),
    (".vq.layers.", ".layers."),
    ("._codebook._initialized", ".codebook.initialized"),
    ("._codebook.cluster_usage", ".codebook.cluster_usage"),
    ("._codebook.embedding_sum", ".codebook.embed_sum"),
)

# Fields that their configuration can vary and that moshi's network fixes.
_FIXED = {
    "audio_channels": 1,
    "use_causal_conv": True,
    "pad_mode": "constant",
    "trim_right_ratio": 1.0,
    "use_conv_shortcut": False,
    "num_semantic_quantizers": 1,
    "hidden_act": "gelu",
    "norm_eps": 1e-05,
    "attention_bias": False,
}
_STEPS_PER_FRAME = 2  # of the transformers, at the encoder's rate


def their_keys(key: str) -> tuple[str, ...]:
    """Where one of moshi's tensors comes from: one key, or three for q, k and v."""
    if key.endswith(_IN_PROJECTION):
        stem = key.removesuffix(_IN_PROJECTION).replace(".transformer.layers.", ".layers.")
        return tuple(f"{stem}.self_attn.{name}_proj.weight" for name in "qkv")
    for ours, theirs in _NAMES:
        key = key.replace(ours, theirs)
    return (key,)


def needed_tensors(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their keys for all of ours, each with a tensor of the shape that it must have."""
    needed: dict[str, Tensor] = {}
    for key, tensor in ours.items():
        keys = their_keys(key)
        needed.update(zip(keys, tensor.chunk(len(keys)) if len(keys) > 1 else (tensor,), strict=True))
    return needed


def to_moshi(theirs: Mapping[str, Tensor], keys: Iterable[str], num_heads: int) -> dict[str, Tensor]:
    """Their tensors under moshi's keys."""
    state = {}
    for key in keys:
        parts = [theirs[name] for name in their_keys(key)]
        if len(parts) > 1:
            q, k, v = parts
            parts = [_neighbouring_pairs(q, num_heads), _neighbouring_pairs(k, num_heads), v]
        state[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return state


def moshi_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Their configuration as moshi's. Raises CheckpointError for values that moshi lacks, KeyError for missing keys."""
    for key, wanted in _FIXED.items():
        if values.get(key, wanted) != wanted:
            raise CheckpointError(f"{key} is {values[key]!r}; only {wanted!r} is supported")
    width, heads = values["hidden_size"], values["num_attention_heads"]
    for key, wanted in (
        ("num_key_value_heads", heads),
        ("head_dim", width // heads),
        ("upsample_groups", width),
        ("vector_quantization_hidden_dimension", values["codebook_dim"]),
    ):
        if values.get(key, wanted) != wanted:
            raise CheckpointError(f"{key} is {values[key]!r}; only {wanted!r} is supported with the other sizes")
    window = values["sliding_window"]
    if not isinstance(window, int) or window < 1:
        raise CheckpointError(f"sliding_window is {window!r}; a number of steps is needed")
    return {
        "sample_rate": values["sampling_rate"],
        "channels": 1,
        "frame_rate": values["sampling_rate"] / (math.prod(values["upsampling_ratios"]) * _STEPS_PER_FRAME),
        "seanet": {
            "channels": 1,
            "dimension": width,
            "causal": True,
            "n_filters": values["num_filters"],
            "n_residual_layers": values["num_residual_layers"],
            "activation": "ELU",
            "compress": values["compress"],
            "dilation_base": values["dilation_growth_rate"],
            "disable_norm_outer_blocks": 0,
            "kernel_size": values["kernel_size"],
            "residual_kernel_size": values["residual_kernel_size"],
            "last_kernel_size": values["last_kernel_size"],
            "norm": "none",
            "pad_mode": "constant",
            "ratios": values["upsampling_ratios"],
            "true_skip": True,
        },
        "transformer": {
            "d_model": width,
            "num_heads": heads,
            "num_layers": values["num_hidden_layers"],
            "causal": True,
            "layer_scale": values["layer_scale_initial_scale"],
            "context": window,
            "conv_layout": True,
            "max_period": _rope_base(values),
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "dim_feedforward": values["intermediate_size"],
            "input_dimension": width,
            "output_dimensions": [width],
        },
        "quantizer": {
            "dimension": values["codebook_dim"],
            "n_q": values["num_quantizers"],
            "bins": values["codebook_size"],
            "input_dimension": width,
            "output_dimension": width,
        },
    }


def _rope_base(values: Mapping[str, Any]) -> float:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"rope_type is {rope['rope_type']!r}; only 'default' is supported")
    base = rope.get("rope_theta", values.get("rope_theta"))
    if base is None:
        raise KeyError("rope_theta")
    return float(base)


def _neighbouring_pairs(weight: Tensor, num_heads: int) -> Tensor:
    """Rows of q or k from first halves before second halves to pairs side by side."""
    return weight.view(num_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
