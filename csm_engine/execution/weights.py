"""Packed weights of the fast step: q, k and v in one matrix, gate and up in another, projected embeddings.

The depth decoder's projection is applied to every audio embedding once, here, instead of to each code of every frame.
For fused products, a norm's weights are multiplied into the matrix that follows it. Quantization rounds the layers'
matrices to eight bits; heads and embeddings keep their type. This module does not know slots or requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from csm_engine.execution.cpu_weights import CpuWeights, is_for_kernels
from csm_engine.execution.depth_weights import DepthWeights, check_sizes, qkv_of_codes
from csm_engine.execution.matrix import Matrix, Quantization, paneled, plain, quantized
from csm_engine.model.csm import CSM, Layer, Stack
from csm_engine.model.rope import rope_table
from csm_engine.model.shapes import ModelConfig, TransformerConfig

FusedProducts = bool | Literal["where_faster"]

_PROJECTION_ROWS = 4096  # audio embeddings projected at a time


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """One transformer layer. D: width; H, G: query and key heads; E: head dimension; F: ffn width."""

    attention_norm: Tensor | None  # (D,); None where its weights are in qkv
    qkv: Matrix  # ((H + 2 G) E, D)
    out: Matrix  # (D, H E)
    mlp_norm: Tensor | None  # (D,); None where its weights are in gate_up
    gate_up: Matrix  # (2 F, D)
    down: Matrix  # (D, F)


@dataclass(frozen=True, slots=True)
class PackedStack:
    """One stack of layers. rope: (positions, E / 2, 2) float32, cosine and sine."""

    config: TransformerConfig
    layers: tuple[PackedLayer, ...]
    norm: Tensor | None  # (D,); None where its weights are in the heads
    rope: Tensor


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """All packed weights of a CSM. V: audio vocabulary; K: codebooks; D, d: widths of backbone and depth decoder."""

    config: ModelConfig
    backbone: PackedStack
    depth_decoder: PackedStack
    text_embeddings: Tensor  # (text vocabulary, D)
    audio_embeddings: Tensor  # (K V, D)
    projected_embeddings: Tensor  # ((K - 1) V, d): the depth decoder's input for a code; the last codebook has none
    projection: Matrix  # (d, D), for the backbone's hidden state
    codebook0_head: Matrix  # (V, D)
    depth_heads: tuple[Matrix, ...]  # K - 1 of (V, d)
    stacked_depth: DepthWeights | None = None  # for the kernel that runs the depth decoder for a whole frame
    on_cpu: CpuWeights | None = None  # for the compiled kernels of a CPU

    @property
    def device(self) -> torch.device:
        return self.projected_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        return self.projected_embeddings.dtype


@torch.inference_mode()
def pack(
    model: CSM,
    *,
    quantization: Quantization = "none",
    fused: FusedProducts = False,
    rows: int = 16,
    depth_kernel: bool = False,
    compiled: bool = True,
) -> PackedWeights:
    """Packs a loaded model. The packed weights share only the embeddings with it, so its layers can be freed.

    quantization: of the layers' matrices.
    fused: which products of few rows the fused CUDA kernels compute: none (False), all (True), or only those of sizes
    at which they were measured to be faster. Products over eight bits are always fused.
    rows: most rows of a step; on a CPU the matrices are laid out for that many.
    depth_kernel: on CUDA, one kernel runs the depth decoder for a whole frame of few rows.
    compiled: on a CPU, compiled kernels run a small model in float32 (cpu_weights.py).

    Raises: ValueError for sizes or types that the depth kernel cannot take.
    """
    plainly = quantization == "none" and not depth_kernel
    on_cpu = compiled and plainly and is_for_kernels(model.config, model.projection.weight)
    folded = (bool(fused) or quantization != "none") and not on_cpu

    def matrix(*parts: Tensor, norm: Tensor | None = None) -> Matrix:
        weight = torch.cat(parts) if len(parts) > 1 else parts[0]
        return head(weight, norm) if quantization == "none" else quantized(_fold(weight, norm), quantization)

    def head(weight: Tensor, norm: Tensor | None = None) -> Matrix:
        if on_cpu:
            return paneled(weight)
        return plain(_fold(weight, norm), rows=rows, fused=bool(fused), where_faster=fused == "where_faster")

    folded_depth = folded or depth_kernel
    depth_decoder = pack_stack(model.depth_decoder, model.config.depth_decoder, matrix, folded_depth)
    heads_norm = depth_decoder.norm if folded_depth else None
    projection = head(model.projection.weight)
    packed = PackedWeights(
        config=model.config,
        backbone=pack_stack(model.backbone, model.config.backbone, matrix, folded),
        depth_decoder=replace(depth_decoder, norm=None) if folded_depth else depth_decoder,
        text_embeddings=model.text_embeddings.weight,
        audio_embeddings=model.audio_embeddings.weight,
        projected_embeddings=_project(model, projection),
        projection=projection,
        codebook0_head=head(model.codebook0_head.weight),
        depth_heads=tuple(head(one, heads_norm) for one in model.audio_head.transpose(1, 2).contiguous()),
    )
    if on_cpu:
        return _stack_on_cpu(packed)
    return stack_depth(packed) if depth_kernel and packed.projected_embeddings.is_cuda else packed


def _stack_on_cpu(weights: PackedWeights) -> PackedWeights:
    """Adds `on_cpu`, of which the depth decoder's matrices become views. weights: with matrices in panels."""
    weights, matrices, heads = _stacked(weights)
    stack = weights.depth_decoder
    assert stack.norm is not None
    norms = {
        f"{kind}s": torch.stack([getattr(layer, kind) for layer in stack.layers])
        for kind in ("attention_norm", "mlp_norm")
    }
    read = {"heads": heads, "inputs": weights.projected_embeddings, "norm": stack.norm, "rope": stack.rope}
    arrays = {name: tensor.numpy() for name, tensor in {**matrices, **norms, **read}.items()}
    return replace(weights, on_cpu=CpuWeights(**arrays))


def stack_depth(weights: PackedWeights) -> PackedWeights:
    """Adds `stacked_depth`, of which the depth decoder's matrices and inputs become views.

    weights: with the depth decoder's norms folded into its matrices. Raises: ValueError for sizes or types that the
    kernel cannot take.
    """
    inputs = weights.projected_embeddings
    check_sizes(weights.config, inputs.dtype, on_gpu=inputs.is_cuda)
    weights, matrices, heads = _stacked(weights)
    layers = weights.depth_decoder.layers
    scales = torch.ones(1, 1, device=inputs.device)
    if layers[0].qkv.scale is not None:
        scales = torch.stack([torch.cat([getattr(layer, kind).scale for kind in matrices]) for layer in layers])
    qkv = qkv_of_codes(inputs, layers[0].qkv, weights.depth_decoder.config.norm_eps)
    table = torch.cat([inputs.flatten(), qkv.flatten()])
    return replace(
        weights,
        projected_embeddings=table[: inputs.numel()].view_as(inputs),
        stacked_depth=DepthWeights(
            weights.config, **matrices, scales=scales, heads=heads, table=table, rope=weights.depth_decoder.rope
        ),
    )


def _stacked(weights: PackedWeights) -> tuple[PackedWeights, dict[str, Tensor], Tensor]:
    """The weights, with the depth decoder's matrices and heads as views of: one tensor for all layers, by the
    matrices' names; one tensor for all heads.
    """
    stack = weights.depth_decoder
    matrices = {
        kind: torch.stack([getattr(layer, kind).values for layer in stack.layers])
        for kind in ("qkv", "out", "gate_up", "down")
    }
    heads = torch.stack([head.values for head in weights.depth_heads])
    layers = []
    for index, layer in enumerate(stack.layers):
        views = {kind: replace(getattr(layer, kind), values=all_[index]) for kind, all_ in matrices.items()}
        layers.append(replace(layer, **views))
    views_of_heads = (replace(head, values=values) for head, values in zip(weights.depth_heads, heads, strict=True))
    weights = replace(weights, depth_decoder=replace(stack, layers=tuple(layers)), depth_heads=tuple(views_of_heads))
    return weights, matrices, heads


def pack_stack(stack: Stack, config: TransformerConfig, matrix: Callable[..., Matrix], folded: bool) -> PackedStack:
    """matrix: packs a weight; folded: the norms' weights are multiplied into the matrices that follow them."""
    return PackedStack(
        config=config,
        layers=tuple(_pack_layer(layer, matrix, folded) for layer in stack.layers),
        norm=stack.norm.scale,
        rope=rope_table(config, stack.norm.scale.device),
    )


def _fold(weight: Tensor, norm: Tensor | None) -> Tensor:
    """weight: (N, K); norm: (K,) weights of the norm before it, None is one."""
    return weight if norm is None else (weight.float() * norm.float()).to(weight.dtype)


def _pack_layer(layer: Layer, matrix: Callable[..., Matrix], folded: bool) -> PackedLayer:
    attention, mlp = layer.attn, layer.mlp
    attention_norm, mlp_norm = layer.sa_norm.scale, layer.mlp_norm.scale
    query, key, value = (part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    return PackedLayer(
        attention_norm=None if folded else attention_norm,
        qkv=matrix(query, key, value, norm=attention_norm if folded else None),
        out=matrix(attention.output_proj.weight),
        mlp_norm=None if folded else mlp_norm,
        gate_up=matrix(mlp.w1.weight, mlp.w3.weight, norm=mlp_norm if folded else None),
        down=matrix(mlp.w2.weight),
    )


def _project(model: CSM, projection: Matrix) -> Tensor:
    """projection: in panels, its product is rounded alike by all processors of a kind; a vendor's may differ."""
    project: Callable[[Tensor], Tensor] = model.projection
    if projection.layout == "panels":
        from csm_bundle.runtime.panel_product import panel_linear  # needs numba, which other models do not

        project = partial(panel_linear, weight=projection.values, outputs=projection.outputs)
    num_inputs = (model.config.num_codebooks - 1) * model.config.audio_vocab_size
    rows = model.audio_embeddings.weight[:num_inputs]
    return torch.cat([project(part) for part in rows.split(_PROJECTION_ROWS)])
