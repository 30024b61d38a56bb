"""The fast step's operations as Triton launches: same names, shapes and results as torch_ops.py."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import next_power_of_2

from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import kernels
from csm_engine.execution.ops.product_kernel import product_kernel

_SPLIT = 256  # keys per program of the backbone's attention
_KEY_BLOCK = 64
_FFN_BLOCK = 1024
_LEAST_ROWS, _MOST_ROWS = 16, 64  # of a tile: what tensor cores take, and what shared memory holds
_WIDTH_BLOCK = 128  # inputs that are added at a time
_NARROW_OUTPUTS = 4096  # up to here a tile is narrow, so that there are tiles for all processors


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (B, D); weight: (D,)."""
    out, width = torch.empty_like(x), x.shape[-1]
    kernels.rms_norm_kernel[(len(x),)](x, weight, out, eps, WIDTH=width, BLOCK=next_power_of_2(width))
    return out


def silu_mul(gate_up: Tensor) -> Tensor:
    """(B, 2 F), gate before up -> (B, F)."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    block = min(_FFN_BLOCK, next_power_of_2(width))
    kernels.silu_mul_kernel[(rows, -(-width // block))](gate_up, out, WIDTH=width, BLOCK=block)
    return out


def product(
    x: Tensor,
    matrix: Matrix,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    gated: bool = False,
    added: Tensor | None = None,
) -> Tensor:
    """x: (B, K), by a matrix (N, K). With norm (K,) x is normed first; gated halves the outputs, gate before up, to
    (B, N / 2); added (B, N) is what the product goes on top of, in place.
    """
    rows, width = x.shape
    outputs = len(matrix.values) // (2 if gated else 1)
    out = x.new_empty(rows, outputs) if added is None else added
    row_block = min(max(_LEAST_ROWS, next_power_of_2(rows)), _MOST_ROWS)
    output_block = 16 if outputs <= _NARROW_OUTPUTS else 32
    product_kernel[(-(-outputs // output_block), -(-rows // row_block))](
        x, norm, matrix.values, matrix.scale, out, rows, eps,
        WIDTH=width, OUTPUTS=outputs,
        NORM=norm is not None, GATED=gated, SCALED=matrix.scale is not None, ADDED=added is not None,
        WIDE=not x.is_cuda, ROW_BLOCK=row_block, OUTPUT_BLOCK=output_block, WIDTH_BLOCK=_WIDTH_BLOCK,
    )  # fmt: skip
    return out


def backbone_attention(
    qkv: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor, rope: Tensor, num_heads: int
) -> Tensor:
    """qkv: (B, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (B,) int64 -> (B, H E)."""
    rows, (max_positions, num_kv_heads, head_dim) = len(qkv), keys.shape[1:]
    shape = {"HEADS": num_heads, "HEAD_DIM": head_dim}
    splits = {"SPLIT": _SPLIT, "SPLITS": -(-max_positions // _SPLIT)}
    query = qkv.new_empty(rows, num_heads, head_dim)
    kernels.turn_and_write_kernel[(rows, num_heads + 2 * num_kv_heads)](
        qkv, query, keys, values, slots, positions, rope, max_positions, KV_HEADS=num_kv_heads, **shape
    )
    part = torch.empty(rows, num_heads, splits["SPLITS"], head_dim, device=qkv.device, dtype=torch.float32)
    peak, total = (torch.empty(part.shape[:3], device=qkv.device, dtype=torch.float32) for _ in range(2))
    kernels.split_attention_kernel[(rows, num_kv_heads, splits["SPLITS"])](
        query, keys, values, slots, positions, part, peak, total, max_positions, head_dim**-0.5,
        KV_HEADS=num_kv_heads, BLOCK=_KEY_BLOCK, **shape, **splits,
    )  # fmt: skip
    out = qkv.new_empty(rows, num_heads * head_dim)
    kernels.join_splits_kernel[(rows, num_heads)](part, peak, total, positions, out, **shape, **splits)
    return out


def depth_attention(qkv: Tensor, keys: Tensor, values: Tensor, position: int, rope: Tensor, num_heads: int) -> Tensor:
    """qkv: (B, (H + 2 G) E); keys, values: (B, G, K, E) -> (B, H E)."""
    rows, num_kv_heads, length, head_dim = keys.shape
    out = qkv.new_empty(rows, num_heads * head_dim)
    kernels.depth_attention_kernel[(rows, num_kv_heads)](
        qkv, keys, values, rope, out, position, head_dim**-0.5,
        HEADS=num_heads, KV_HEADS=num_kv_heads, HEAD_DIM=head_dim, LENGTH=length, BLOCK=next_power_of_2(length),
    )  # fmt: skip
    return out


def sample_and_feed(
    logits: Tensor,
    seed: Tensor,
    frame: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    codebook: int,
    codebook_size: int,
    table: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """logits: (B, V); table: (fed codebooks * V, d) -> codes (B,) int64 and what is fed for them (B, d)."""
    rows, vocab_size = logits.shape
    codes = torch.empty(rows, device=logits.device, dtype=torch.int64)
    fed = None if table is None else table.new_empty(rows, table.shape[1])
    width = 1 if table is None else table.shape[1]
    kernels.sample_kernel[(rows,)](
        logits, seed, frame, temperature, top_k, codes, table, fed, codebook, vocab_size,
        CODEBOOK_SIZE=codebook_size, BLOCK=next_power_of_2(codebook_size),
        KEY_BITS=16 if logits.dtype is torch.bfloat16 else 32,
        FEED=table is not None, WIDTH=width, WIDTH_BLOCK=next_power_of_2(width),
    )  # fmt: skip
    return codes, fed
