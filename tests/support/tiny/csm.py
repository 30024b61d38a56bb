"""Writes a CSM checkpoint of any size with seeded random weights, in either published layout.

The layouts are Sesame's, `model.safetensors` or `ckpt.pt`, and the transformers library's, sharded safetensors; each
has its own config.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from csm_engine.model.checkpoint_keys import TIED_AUDIO_EMBEDDINGS, KeyMap, original_keys, transformers_keys
from csm_engine.model.csm import CSM
from csm_engine.model.loader import random_model
from csm_engine.model.shapes import ModelConfig, TransformerConfig

# It makes hundreds of frames a second, and has all features of the real model: GQA, two stacks, 3 spare audio ids.
TINY = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=32, num_heads=4, num_kv_heads=2, ffn_dim=64, max_seq_len=128),
    depth_decoder=TransformerConfig(num_layers=1, dim=16, num_heads=2, num_kv_heads=1, ffn_dim=32, max_seq_len=16),
    text_vocab_size=320,
    audio_vocab_size=67,
    num_codebooks=8,
    codebook_size=64,
)

TINY_BUNDLE = ModelConfig(
    backbone=TransformerConfig(num_layers=2, dim=64, num_heads=4, num_kv_heads=2, ffn_dim=128),
    depth_decoder=TransformerConfig(num_layers=2, dim=32, num_heads=2, num_kv_heads=1, ffn_dim=64),
    text_vocab_size=320,
    audio_vocab_size=2051,
    num_codebooks=32,
    codebook_size=2048,
)


def permute_rotary(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `unpermute_rotary`."""
    rows, dim = weight.shape
    return weight.view(heads, rows // heads // 2, 2, dim).transpose(1, 2).reshape(rows, dim)


def write_original(folder: Path, config: ModelConfig, *, seed: int, pickle: bool = False) -> CSM:
    """Writes `model.safetensors` (or `ckpt.pt`) and config.json. Returns the model."""
    model = random_model(config, seed=seed)
    save_original(folder, model, pickle=pickle)
    return model


def save_original(folder: Path, model: CSM, *, dtype: torch.dtype = torch.float32, pickle: bool = False) -> None:
    """Writes a model in Sesame's layout. dtype: of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.to(dtype) for name, tensor in _renamed(model, original_keys(model.config)).items()}
    if pickle:
        torch.save({"model": state}, folder / "ckpt.pt")
    else:
        save_file(state, folder / "model.safetensors")
    _write_json(folder / "config.json", original_config(model.config))


def write_transformers(folder: Path, config: ModelConfig, *, seed: int, num_shards: int = 2) -> CSM:
    """Writes sharded safetensors with an index, and config.json. Returns the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_model(config, seed=seed)
    state = transformers_state(model)
    names = sorted(state)
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        part = {name: state[name] for name in names[shard::num_shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    _write_json(folder / "config.json", transformers_config(config))
    return model


def transformers_state(model: CSM) -> dict[str, Tensor]:
    """The parameters with the transformers library's names and order of rows."""
    state = _renamed(model, transformers_keys(model.config))
    state[TIED_AUDIO_EMBEDDINGS] = model.audio_embeddings.weight.clone()
    return state


def original_config(config: ModelConfig) -> dict[str, Any]:
    """config.json with explicit shapes, where the published file names flavors."""
    return {
        "backbone": asdict(config.backbone),
        "depth_decoder": asdict(config.depth_decoder),
        "text_vocab_size": config.text_vocab_size,
        "audio_vocab_size": config.audio_vocab_size,
        "audio_num_codebooks": config.num_codebooks,
        "audio_codebook_size": config.codebook_size,
    }


def transformers_config(config: ModelConfig) -> dict[str, Any]:
    """config.json as the transformers library writes it for its CsmConfig."""
    return {
        "model_type": "csm",
        **_transformers_stack(config.backbone, low=0.125, high=0.5, window=1024),
        "text_vocab_size": config.text_vocab_size,
        "vocab_size": config.audio_vocab_size,
        "num_codebooks": config.num_codebooks,
        "audio_codebook_size": config.codebook_size,
        "depth_decoder_config": {
            "model_type": "csm_depth_decoder_model",
            **_transformers_stack(config.depth_decoder, low=0.001953125, high=0.0078125, window=16),
            "backbone_hidden_size": config.backbone.dim,
            "vocab_size": config.audio_vocab_size,
            "num_codebooks": config.num_codebooks,
        },
    }


def _transformers_stack(stack: TransformerConfig, *, low: float, high: float, window: int) -> dict[str, Any]:
    return {
        "hidden_size": stack.dim,
        "intermediate_size": stack.ffn_dim,
        "num_hidden_layers": stack.num_layers,
        "num_attention_heads": stack.num_heads,
        "num_key_value_heads": stack.num_kv_heads,
        "max_position_embeddings": stack.max_seq_len,
        "rms_norm_eps": stack.norm_eps,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": float(stack.rope_base),
            "factor": float(stack.rope_scale_factor),
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": window,
        },
    }


def _renamed(model: CSM, maps: list[KeyMap]) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    state = {}
    for entry in maps:
        tensor = parameters[entry.ours].detach()
        state[entry.theirs] = (permute_rotary(tensor, entry.heads) if entry.heads else tensor).contiguous()
    return state


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
