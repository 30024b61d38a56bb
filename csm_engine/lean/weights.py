"""A CSM's weights, packed for the fast step: q, k and v in one matrix, gate and up in another, projected embeddings.

Packing changes no value but one: the depth decoder's projection is applied to every audio embedding once, here,
instead of to each code of every frame. Knows no slots and no requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from csm_engine.config import ModelConfig, TransformerConfig
from csm_engine.model.csm import CSM

_PROJECTION_ROWS = 4096  # audio embeddings projected at a time


@dataclass(frozen=True, slots=True)
class LeanLayer:
    """One transformer layer. D: width; H, G: query and key heads; E: head dimension; F: ffn width."""

    attention_norm: Tensor  # (D,)
    qkv: Tensor  # ((H + 2 G) E, D)
    out: Tensor  # (D, H E)
    mlp_norm: Tensor  # (D,)
    gate_up: Tensor  # (2 F, D)
    down: Tensor  # (D, F)


@dataclass(frozen=True, slots=True)
class LeanStack:
    """One stack of layers. rope: (positions, E / 2, 2) float32, cosine and sine."""

    config: TransformerConfig
    layers: tuple[LeanLayer, ...]
    norm: Tensor  # (D,)
    rope: Tensor


@dataclass(frozen=True, slots=True)
class LeanWeights:
    """All of a CSM. V: audio vocabulary; K: codebooks; D, d: widths of backbone and depth decoder."""

    config: ModelConfig
    backbone: LeanStack
    depth_decoder: LeanStack
    text_embeddings: Tensor  # (text vocabulary, D)
    audio_embeddings: Tensor  # (K V, D)
    projected_embeddings: Tensor  # ((K - 1) V, d): what the depth decoder is fed for a code; the last is never fed
    projection: Tensor  # (d, D), for the backbone's hidden state
    codebook0_head: Tensor  # (V, D)
    depth_heads: Tensor  # (K - 1, V, d)

    @property
    def device(self) -> torch.device:
        return self.projection.device

    @property
    def dtype(self) -> torch.dtype:
        return self.projection.dtype


@torch.inference_mode()
def pack(model: CSM) -> LeanWeights:
    """Packs a loaded model. Layer by layer the originals can be freed: nothing packed refers to them but embeddings."""
    return LeanWeights(
        config=model.config,
        backbone=_pack_stack(model.backbone, model.config.backbone),
        depth_decoder=_pack_stack(model.depth_decoder, model.config.depth_decoder),
        text_embeddings=model.text_embeddings.weight,
        audio_embeddings=model.audio_embeddings.weight,
        projected_embeddings=_project(model),
        projection=model.projection.weight,
        codebook0_head=model.codebook0_head.weight,
        depth_heads=model.audio_head.transpose(1, 2).contiguous(),
    )


def _pack_stack(stack: Any, config: TransformerConfig) -> LeanStack:
    return LeanStack(
        config=config,
        layers=tuple(_pack_layer(layer) for layer in stack.layers),
        norm=stack.norm.scale,
        rope=stack.layers[0].attn.pos_embeddings.cache[: config.max_seq_len].contiguous(),
    )


def _pack_layer(layer: Any) -> LeanLayer:  # torchtune's TransformerSelfAttentionLayer
    attention, mlp = layer.attn, layer.mlp
    return LeanLayer(
        attention_norm=layer.sa_norm.scale,
        qkv=torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
        out=attention.output_proj.weight,
        mlp_norm=layer.mlp_norm.scale,
        gate_up=torch.cat([mlp.w1.weight, mlp.w3.weight]),
        down=mlp.w2.weight,
    )


def _project(model: CSM) -> Tensor:
    fed = (model.config.num_codebooks - 1) * model.config.audio_vocab_size
    rows = model.audio_embeddings.weight[:fed]
    return torch.cat([model.projection(part) for part in rows.split(_PROJECTION_ROWS)])
