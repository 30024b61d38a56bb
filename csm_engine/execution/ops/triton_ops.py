"""The fast step's operations as Triton launches: same names, shapes and results as torch_ops.py."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import next_power_of_2

from csm_engine.execution.matrix import Matrix
from csm_engine.execution.ops import kernels
from csm_engine.execution.ops.backbone_attention_kernel import backbone_attention_kernel
from csm_engine.execution.ops.depth.depth_attention_kernel import depth_attention_kernel
from csm_engine.execution.ops.prefetch.launch_prefetch import NO_PREFETCH, Prefetch
from csm_engine.execution.ops.product_kernel import product_kernel
from csm_engine.execution.ops.sample_kernel import sample_kernel
from csm_engine.execution.ops.tile_shapes import (
    BACKBONE,
    DEPTH_WARPS,
    MOST_DEPTH_KEYS,
    SAMPLER_WARPS,
    BackboneShape,
    TileShape,
    tile_shape,
)
from csm_engine.execution.sampling import SamplingRows

_LEAST_MEMBERS = 16  # query heads of a tile, as tensor cores need
_FFN_BLOCK = 1024
_LEAST_DEPTH_KEYS = 8  # keys of one program of the depth decoder's attention
_FEW_ROWS = 64  # rows; up to this many, each query head of the depth decoder has its own program
_MOST_ARRIVALS = 2**15  # tiles of one launch whose programs count each other

dependent_launch = False  # whether kernels start while the previous one ends; set before graphs are captured

_arrivals_by_device: dict[torch.device, Tensor] = {}


def _arrivals(device: torch.device, tiles: int) -> Tensor:
    """(tiles,) int32 zeros; every launch leaves them zero. Launches of a device share them, for they run in order."""
    if tiles > _MOST_ARRIVALS:
        raise ValueError(f"{tiles} tiles are counted in one launch; it must be at most {_MOST_ARRIVALS}")
    if device not in _arrivals_by_device:
        _arrivals_by_device[device] = torch.zeros(_MOST_ARRIVALS, device=device, dtype=torch.int32)
    return _arrivals_by_device[device]


def launch_options() -> dict[str, bool]:
    """Launch options that follow from `dependent_launch`."""
    return {"PDL": True, "launch_pdl": True} if dependent_launch else {"PDL": False}


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x: (B, D); weight: (D,), None is one."""
    out, width = torch.empty_like(x), x.shape[-1]
    kernels.rms_norm_kernel[(len(x),)](
        x,
        weight,
        out,
        eps,
        WIDTH=width,
        BLOCK=next_power_of_2(width),
        WEIGHTED=weight is not None,
        **launch_options(),
    )
    return out


def silu_mul(gate_up: Tensor) -> Tensor:
    """(B, 2 F), gate before up -> (B, F)."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    block = min(_FFN_BLOCK, next_power_of_2(width))
    kernels.silu_mul_kernel[(rows, -(-width // block))](gate_up, out, WIDTH=width, BLOCK=block, **launch_options())
    return out


def product(
    x: Tensor,
    matrix: Matrix,
    *,
    norm: bool = False,
    eps: float = 0.0,
    gated: bool = False,
    added: Tensor | None = None,
    prefetch: Prefetch = NO_PREFETCH,
    shape: TileShape | None = None,
) -> Tensor:
    """x: (B, K), by a matrix (N, K) -> (B, N).

    norm: each row of x is divided by its root mean square first; the norm's weights are in the matrix. gated: halves
    the outputs, gate before up, to (B, N / 2); added: (B, N), to which the product is added in place. prefetch:
    for later launches; shape: of a tile, None takes that of `tile_shapes`.
    """
    rows, width = x.shape
    outputs = len(matrix.values) // (2 if gated else 1)
    if shape is None:
        shape = tile_shape(outputs, width, rows, gated=gated, weight_bytes=matrix.values.element_size())
    out = x.new_empty(rows, outputs) if added is None else added
    even = outputs % shape.output_block == 0 and width % (shape.splits * shape.width_block) == 0
    row_tiles, output_tiles = -(-rows // shape.row_block), -(-outputs // shape.output_block)
    part = arrivals = None
    if shape.splits_here < shape.splits:
        tiles = row_tiles * output_tiles
        size = shape.row_block * (shape.output_block * (1 + gated) + norm)
        part = x.new_empty(tiles * shape.splits * size, dtype=torch.float32)
        arrivals = _arrivals(x.device, tiles)
    product_kernel[(row_tiles, output_tiles, shape.splits // shape.splits_here)](
        x, matrix.values, matrix.scale, out, part, arrivals, *prefetch.tensors(), rows, eps,
        WIDTH=width, OUTPUTS=outputs,
        NORM=norm, GATED=gated, SCALED=matrix.scale is not None, ADDED=added is not None,
        ROW_BLOCK=shape.row_block, OUTPUT_BLOCK=shape.output_block, WIDTH_BLOCK=shape.width_block,
        SPLITS=shape.splits, SPLITS_HERE=shape.splits_here,
        EVEN=even,
        EVICT="evict_first" if row_tiles == 1 else "", WIDE=not x.is_cuda,
        num_warps=shape.warps, num_stages=shape.stages, **_own_prefetch(matrix.values, width, shape, even),
        **prefetch.constants(), **launch_options(),
    )  # fmt: skip
    return out


def _own_prefetch(weight: Tensor, width: int, shape: TileShape, even: bool) -> dict[str, str | int]:
    """The instruction that prefetches a program's weights before its inputs are there; one a thread."""
    chunks = max(1, 32 * shape.warps // shape.output_block)
    size = width // shape.splits // chunks * weight.element_size()
    if not dependent_launch or not even or size % 16:
        return {"OWN_PREFETCH": "", "CHUNKS": 0}
    return {"OWN_PREFETCH": f"cp.async.bulk.prefetch.L2.global [$1], {size}; // $0", "CHUNKS": chunks}


def backbone_attention(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    positions: Tensor,
    rope: Tensor,
    num_heads: int,
    *,
    prefetch: Prefetch = NO_PREFETCH,
    shape: BackboneShape = BACKBONE,
) -> Tensor:
    """qkv: (B, (H + 2 G) E); keys, values: (S, L, G, E); slots, positions: (B,) int64 -> (B, H E).

    prefetch: a matrix for a later launch.
    """
    rows, (max_positions, num_kv_heads, head_dim) = len(qkv), keys.shape[1:]
    splits = -(-max_positions // shape.split)
    block = shape.block if qkv.element_size() < 4 else shape.block // 2  # registers
    part = torch.empty(rows, num_heads, splits, head_dim, device=qkv.device, dtype=torch.float32)
    peak, total = (torch.empty(part.shape[:3], device=qkv.device, dtype=torch.float32) for _ in range(2))
    out = qkv.new_empty(rows, num_heads * head_dim)
    backbone_attention_kernel[(rows, num_kv_heads, splits)](
        qkv, keys, values, slots, positions, rope, part, peak, total, _arrivals(qkv.device, rows * num_kv_heads), out,
        prefetch.matrix, max_positions, head_dim**-0.5,
        HEADS=num_heads, KV_HEADS=num_kv_heads, HEAD_DIM=head_dim,
        MEMBERS=max(_LEAST_MEMBERS, next_power_of_2(num_heads // num_kv_heads)),
        SPLIT=shape.split, SPLITS=splits, ALL_SPLITS=next_power_of_2(splits), BLOCK=block, WIDE=not qkv.is_cuda,
        num_warps=shape.warps, num_stages=shape.stages, PREFETCH_MATRIX=prefetch.matrix_bytes, **launch_options(),
    )  # fmt: skip
    return out


def depth_attention(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    position: int,
    rope: Tensor,
    num_heads: int,
    *,
    warps: int | None = None,
    members: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """qkv: (B, (H + 2 G) E); keys, values: (B, G, K, E) -> (B, H E), in `out` if given. members: query heads of a
    program.
    """
    rows, num_kv_heads, length, head_dim = keys.shape
    if out is None:
        out = qkv.new_empty(rows, num_heads * head_dim)
    block = max(_LEAST_DEPTH_KEYS, next_power_of_2(position))
    members = members or (1 if rows <= _FEW_ROWS else num_heads // num_kv_heads)
    depth_attention_kernel[(rows, num_heads // members)](
        qkv, keys, values, rope, out, position, head_dim**-0.5,
        HEADS=num_heads, KV_HEADS=num_kv_heads, HEAD_DIM=head_dim, LENGTH=length, BLOCK=block, MEMBERS=members,
        num_warps=warps or DEPTH_WARPS[min(block, MOST_DEPTH_KEYS)], **launch_options(),
    )  # fmt: skip
    return out


def sample_and_feed(
    logits: Tensor,
    sampling: SamplingRows,
    slots: Tensor,
    frame: Tensor,
    codebook: int,
    codebook_size: int,
    vocab_size: int,
    table: Tensor | None,
    *,
    codes: Tensor | None = None,
    warps: int = SAMPLER_WARPS,
) -> tuple[Tensor, Tensor | None]:
    """logits: (B, codebook_size or more); sampling: of every slot; slots: (B,) those of the rows; frame: (B,) int64;
    table: (fed codebooks * vocab_size, d) -> codes (B,) int64, fed (B, d).

    codes: the output, of any stride; a new tensor when None.
    """
    rows, stride = logits.shape
    if codes is None:
        codes = torch.empty(rows, device=logits.device, dtype=torch.int64)
    fed = None if table is None else table.new_empty(rows, table.shape[1])
    width = 1 if table is None else table.shape[1]
    sample_kernel[(rows,)](
        logits, slots, frame, sampling.seed, sampling.temperature, sampling.top_k, codes, table, fed, codebook,
        vocab_size,
        STRIDE=stride, CODE_STRIDE=codes.stride(0), CODEBOOK_SIZE=codebook_size,
        BLOCK=max(4, next_power_of_2(codebook_size)),
        KEY_BITS=16 if logits.dtype is torch.bfloat16 else 32,
        FEED=table is not None, WIDTH=width, WIDTH_BLOCK=next_power_of_2(width), num_warps=warps,
        **launch_options(),
    )  # fmt: skip
    return codes, fed
