"""The depth decoder's weights for the kernel that runs a whole frame: the matrices of all layers stacked in one tensor.

The packed weights become views of these tensors, so nothing is stored twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.execution.matrix import Matrix
from csm_engine.model.shapes import ModelConfig

DEPTH_KERNEL_ROWS = 64  # most rows of that kernel
LARGEST_TILE = 64  # outputs of a product's tile
LEAST_SIZE = 32  # smallest codebook size and head dimension
_CODES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class DepthWeights:
    """L: layers; d, F: widths; H, G: query and key heads; E: head dimension; K: codebooks; V: audio vocabulary.

    The norms' weights are folded into the matrices that follow them.
    """

    config: ModelConfig
    qkv: Tensor  # (L, (H + 2 G) E, d); this and the next three: in the model's type or in eight bits
    out: Tensor  # (L, d, H E)
    gate_up: Tensor  # (L, 2 F, d)
    down: Tensor  # (L, d, F)
    scales: Tensor  # (L, N) float32, of the N outputs of these four; (1, 1), not read, in the model's type
    heads: Tensor  # (K - 1, V, d)
    table: Tensor  # flat: ((K - 1) V, d) inputs by code, then ((K - 1) V, (H + 2 G) E) layer 0's q, k and v of them
    rope: Tensor  # (positions, E / 2, 2) float32


def qkv_of_codes(table: Tensor, qkv: Matrix, eps: float) -> Tensor:
    """Layer 0's q, k and v for each row of table (n, d) -> (n, N), in its type. They are not rotated by position, so
    they depend on the code alone. qkv: with the norm's weights folded in.
    """
    weight = qkv.values.float() if qkv.scale is None else qkv.values.float() * qkv.scale[:, None]
    parts = (F.rms_norm(part.float(), part.shape[1:], eps=eps) for part in table.split(_CODES_AT_ONCE))
    return torch.cat([F.linear(part, weight).to(table.dtype) for part in parts])


def check_sizes(config: ModelConfig, dtype: torch.dtype, *, on_gpu: bool) -> None:
    """Raises: ValueError naming the size that the kernel cannot take, and what it can."""
    stack = config.depth_decoder
    powers = {"dim": stack.dim, "ffn_dim": stack.ffn_dim, "head_dim": stack.head_dim, "heads": stack.num_heads,
              "key heads": stack.num_kv_heads, "codebook_size": config.codebook_size}  # fmt: skip
    for name, size in powers.items():
        if size & (size - 1):
            raise ValueError(f"the depth kernel needs a power of two as {name}; given is {size}")
    for name, size, least in (
        ("dim", stack.dim, LARGEST_TILE),
        ("ffn_dim", stack.ffn_dim, LARGEST_TILE),
        ("head_dim", stack.head_dim, LEAST_SIZE),
        ("width of all heads", stack.num_heads * stack.head_dim, LARGEST_TILE),  # so q, k and v are whole tiles too
        ("codebook_size", config.codebook_size, LEAST_SIZE),
    ):
        if size < least:
            raise ValueError(f"the depth kernel needs a {name} of at least {least}; given is {size}")
    if on_gpu and dtype is not torch.bfloat16:
        raise ValueError(f"the depth kernel needs bfloat16; given is {dtype}")
