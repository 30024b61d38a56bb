"""The depth decoder's cooperative launch under the race checker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from csm_engine.execution.depth_weights import DepthWeights
from csm_engine.execution.ops.depth import frame_kernels
from csm_engine.execution.ops.depth.depth_launches import DepthKernel, phases_of
from csm_engine.execution.ops.depth.depth_shape import DepthShape
from csm_engine.execution.ops.eight_bits import ROW_SCALES
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.model.shapes import ModelConfig
from tests.support.kernels.races.accesses import Accesses, Indices
from tests.support.kernels.races.turns import Choose, run_in_turns

WRITTEN = (
    "x",
    "square",
    "qkv",
    "attended",
    "inner",
    "logits",
    "part",
    "arrivals",
    "cache",
    "eight",
    "row_scale",
    "codes",
    "counter",
)
ORDERED = ("part", "arrivals")  # shared between two barriers by those that count
_WHOLE = 2**16  # more inputs than any product has


def weights_without_values(config: ModelConfig, dtype: torch.dtype, *, int8: bool = False) -> DepthWeights:
    """Weights whose memory is never touched, for launches without values. int8: of the layers' matrices."""
    stack = config.depth_decoder
    layers, dim, ffn, attended = stack.num_layers, stack.dim, stack.ffn_dim, stack.num_heads * stack.head_dim
    others = config.num_codebooks - 1

    def empty(*size: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype)

    def matrix(outputs: int, inputs: int) -> torch.Tensor:
        return empty(layers, outputs, inputs, dtype=torch.int8 if int8 else dtype)

    qkv_rows = attended + 2 * stack.num_kv_heads * stack.head_dim
    return DepthWeights(
        config,
        qkv=matrix(qkv_rows, dim),
        out=matrix(dim, attended),
        gate_up=matrix(2 * ffn, dim),
        down=matrix(dim, ffn),
        scales=empty(*((layers, qkv_rows + 2 * dim + 2 * ffn) if int8 else (1, 1)), dtype=torch.float32),
        heads=empty(others, config.audio_vocab_size, dim),
        table=empty(others * config.audio_vocab_size * (dim + qkv_rows)),
        rope=empty(stack.max_seq_len, stack.head_dim // 2, 2, dtype=torch.float32),
    )


def drawing_of(rows: int, codebooks: int) -> Drawing:
    sampling = SamplingRows(torch.ones(rows), torch.full((rows,), 5), torch.arange(rows))
    return Drawing(sampling, torch.arange(rows).flip(0), torch.arange(rows), torch.zeros(rows, codebooks).long())


def as_on_a_gpu(shape: DepthShape) -> DepthShape:
    """A shape that prefetches weights. A product's inputs are one step, which changes no address."""
    cuts = shape.cuts
    names = ("qkv", "out", "gate_up", "down", "heads")
    whole = {name: replace(getattr(cuts, name), width=_WHOLE) for name in names}
    return replace(shape, wide=False, prefetches=True, cuts=replace(cuts, **whole))


class RowsThere:
    """Which rows of the buffers between phases exist in a phase, and so may be touched, in a frame of B rows.

    Those of the phase's positions: the head has the last one's, attention its own. All else has B rows by its size.
    Products read the scales of whole tiles, and so of whole row blocks.
    """

    def __init__(self, shape: DepthShape, rows: int) -> None:
        self._rows, self._shape = rows, shape
        self._phases = list(phases_of(shape.layers, shape.codebooks))
        self._widths = {
            "x": shape.dim,
            "square": shape.parts,
            "qkv": shape.qkv_rows,
            "attended": shape.attended,
            "inner": shape.ffn,
            "logits": shape.codebook_size,
            "eight": shape.dim,
        }

    def __call__(self, name: str, interval: int, indices: Indices, writes: bool) -> bool:
        first, last = self._of_phase(interval)
        if name == "part":
            row = self._rows_of_parts(indices, last)
        elif name == "row_scale":
            row = indices % ROW_SCALES.value
            last = last if writes else -(-last // self._shape.row_block) * self._shape.row_block
        elif name in self._widths:
            row = indices // self._widths[name]
            if name == "logits":
                first, last = 0, self._rows
        else:
            return True
        return bool(first <= row.min() and row.max() < last)

    def _of_phase(self, interval: int) -> tuple[int, int]:
        number, codebook, _, position = self._phases[min(interval, len(self._phases) - 1)]
        if number == frame_kernels.DRAW.value:
            return 0, self._rows
        here = self._rows * (2 if codebook == 1 else 1)
        if number == frame_kernels.HEAD.value:
            return here - self._rows, here
        if number == frame_kernels.ATTEND.value and codebook == 1:
            return position * self._rows, (position + 1) * self._rows
        return 0, here

    def _rows_of_parts(self, indices: Indices, here: int) -> Indices:
        """parts: (tiles, splits, rows of a block, outputs of a tile); tiles of one output block are neighbours."""
        shape = self._shape
        row = indices // shape.cuts.down.block
        block = shape.cuts.down.rows
        tile = row // (block * shape.splits)
        rows: Indices = tile % -(-here // block) * block + row % block
        return rows


def checked_frame(
    kernel: DepthKernel, first: torch.Tensor, fed: torch.Tensor, drawing: Drawing, choose: Choose, *,
    shape: DepthShape | None = None, values: bool = True, barriers: bool = True,
    entry: Any = frame_kernels.depth_frame_kernel,
) -> Accesses:  # fmt: skip
    """Runs a frame. shape: that of the kernel by default; values: see `run_in_turns`; entry: the kernel to launch.

    barriers: False where one is left out, so that it is not known which phase an interval is, and which rows are there.
    """
    tensors = (*kernel._arguments(first, fed, drawing), kernel._counter)
    buffers = dict(zip(entry.arg_names, tensors, strict=False))
    assert list(buffers)[-1] == "counter"
    shape = shape or kernel.shape(len(first))
    there = RowsThere(shape, len(first)) if barriers else None
    accesses = Accesses(kernel.programs, buffers, written=WRITTEN, ordered=ORDERED, there=there)
    constants = {"rows": len(first), "S": shape}
    run_in_turns(entry, kernel.programs, buffers | constants, accesses, choose, values=values)
    accesses.finish()
    return accesses
