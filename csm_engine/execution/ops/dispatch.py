"""The fast step's operations: Triton where the tensors are on a CUDA device, plain torch elsewhere."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_bundle.runtime.packed_linear import packed_linear
from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import torch_ops as ops_torch
from csm_engine.execution.weights import PackedLayer, PackedStack

_FUSED_ROWS = 128  # more rows, as prompts have them, are better off with the vendor's product
_INT8_WIDTH = 16  # inputs that are multiplied at a time
_INT8_ROWS = 48  # on a CPU: more rows are better off with the matrix widened first


def _ops(x: Tensor) -> ModuleType:
    if not x.is_cuda:
        return ops_torch
    from csm_engine.execution.ops import triton_ops as ops_triton  # triton comes with CUDA builds of torch only

    return ops_triton


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (B, D); weight: (D,) -> (B, D)."""
    normed: Tensor = _ops(x).rms_norm(x, weight, eps)
    return normed


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """x: (B, K); matrix: (N, K) -> (B, N)."""
    values, scale = matrix.values, matrix.scale
    if matrix.is_packed:
        return packed_linear(x, values)
    if scale is None:
        return F.linear(x, values)
    if _is_for_int8_product(x, values):
        return torch._weight_int8pack_mm(x, values, scale.bfloat16())
    return (F.linear(x, values.to(x.dtype)).float() * scale).to(x.dtype)


def _is_for_int8_product(x: Tensor, values: Tensor) -> bool:
    """Whether torch has a product for these on a CPU; it reads past the end of widths that it does not know."""
    known = values.dtype is torch.int8 and x.dtype is torch.bfloat16 and not x.is_cuda
    known = known and hasattr(torch, "_weight_int8pack_mm")  # private: another release of torch may lack it
    return known and len(x) <= _INT8_ROWS and x.shape[1] % _INT8_WIDTH == 0


def norm_linear(x: Tensor, norm: Tensor, matrix: Matrix, eps: float) -> Tensor:
    """x: (B, K), normed first -> (B, N)."""
    if _is_fused(x, matrix):
        return _product(x, matrix, norm=norm, eps=eps)
    return linear(rms_norm(x, norm, eps), matrix)


def norm_gated(x: Tensor, norm: Tensor, matrix: Matrix, eps: float) -> Tensor:
    """x: (B, K), normed first; matrix: (2 F, K), gate before up -> (B, F)."""
    if _is_fused(x, matrix):
        return _product(x, matrix, norm=norm, eps=eps, gated=True)
    gated: Tensor = _ops(x).silu_mul(linear(rms_norm(x, norm, eps), matrix))
    return gated


def add_linear(x: Tensor, y: Tensor, matrix: Matrix) -> Tensor:
    """x: (B, N), changed in place; y: (B, K) -> x."""
    if _is_fused(x, matrix):
        return _product(y, matrix, added=x)
    if matrix.is_packed or matrix.scale is not None:
        return x.add_(linear(y, matrix))
    return x.addmm_(y, matrix.values.t())


def _is_fused(x: Tensor, matrix: Matrix) -> bool:
    return x.is_cuda and matrix.fused and len(x) <= _FUSED_ROWS


def _product(x: Tensor, matrix: Matrix, **around: Any) -> Tensor:
    from csm_engine.execution.ops import triton_ops as ops_triton

    return ops_triton.product(x, matrix, **around)


def backbone_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, stack: PackedStack
) -> Tensor:
    """Writes one position a row into the cache and attends over the slot up to it.

    qkv: (B, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (B,) int64 -> (B, H E).
    """
    num_heads = stack.config.num_heads
    attended: Tensor = _ops(qkv).backbone_attention(qkv, keys, values, slots, positions, stack.rope, num_heads)
    return attended


def depth_attention(qkv: Tensor, keys: Tensor, values: Tensor, position: int, stack: PackedStack) -> Tensor:
    """Writes one position of the frame in the making and attends up to it.

    qkv: (B, (H + 2 G) E); keys, values: (B, G, K, E) -> (B, H E).
    """
    attended: Tensor = _ops(qkv).depth_attention(qkv, keys, values, position, stack.rope, stack.config.num_heads)
    return attended


def finish_layer(x: Tensor, attended: Tensor, layer: PackedLayer, eps: float) -> Tensor:
    """Output projection, residual, MLP, residual. x: (B, D), changed in place; attended: (B, H E) -> (B, D)."""
    add_linear(x, attended, layer.out)
    return add_linear(x, norm_gated(x, layer.mlp_norm, layer.gate_up, eps), layer.down)


def write_prompt(qkv: Tensor, keys: Tensor, values: Tensor, start: int, stack: PackedStack) -> Tensor:
    """Writes T positions of one slot and returns their queries.

    qkv: (T, (H + 2 G) E); keys, values: (L, G, E) of the slot -> (T, H, E).
    """
    config, end = stack.config, start + len(qkv)
    heads = qkv.view(len(qkv), -1, config.head_dim)
    turned = ops_torch.rotate(heads[:, : config.num_heads + config.num_kv_heads], stack.rope[start:end])
    keys[start:end] = turned[:, config.num_heads :]
    values[start:end] = heads[:, config.num_heads + config.num_kv_heads :]
    return turned[:, : config.num_heads]


class FrameDraw:
    """How the rows of one frame are drawn. seed, frame, top_k: (B,) int64; temperature: (B,) float32."""

    def __init__(
        self, seed: Tensor, frame: Tensor, temperature: Tensor, top_k: Tensor, num_codebooks: int, codebook_size: int
    ) -> None:
        self._rows = (seed, frame, temperature, top_k)
        self._codebook_size = codebook_size
        self._cpu_draw = None if seed.is_cuda else ops_torch.FrameDraw(*self._rows, num_codebooks, codebook_size)

    def codes(self, logits: Tensor, codebook: int, table: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Draws the codes of one codebook and looks up what the depth decoder is fed for them.

        logits: (B, V); table: (fed codebooks * V, d), None for the last codebook -> (B,) int64, (B, d).
        """
        if self._cpu_draw is None:
            from csm_engine.execution.ops import triton_ops as ops_triton

            return ops_triton.sample_and_feed(logits, *self._rows, codebook, self._codebook_size, table)
        codes = self._cpu_draw.sample(logits, codebook)
        return codes, None if table is None else F.embedding(codes + codebook * logits.shape[1], table)
