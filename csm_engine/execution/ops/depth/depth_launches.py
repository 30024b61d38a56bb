"""Launches of the depth decoder's frame, and the buffers between its phases. Importing needs triton."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.execution.depth_weights import DEPTH_KERNEL_ROWS, DepthWeights
from csm_engine.execution.ops.depth import frame_kernels
from csm_engine.execution.ops.depth.depth_shape import DepthShape, cuts_of
from csm_engine.execution.ops.eight_bits import ROW_SCALES
from csm_engine.execution.ops.tile_shapes import row_block_of
from csm_engine.execution.sampling import Drawing

REGISTERS = 255  # of a thread, all that there are; unasked, ptxas may settle for fewer, which spill
_FEW_ROWS = 16  # up to this many, each query head has its own program
_HOPPER_PROGRAMS = 132  # one for each multiprocessor; where there is no device to ask

# A phase of a pass: its number, codebook, layer, position.
Phase = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class DepthBuffers:
    """What phases leave for each other, for B rows; a pass has 2 B or B of them, in whole row blocks.

    Rows that are not written stay zero. square: parts of the sum of a row's squares; part, arrivals: of products in
    splits; cache: keys and values, (2, L, B, G, K, E).
    Where rows are rounded, part has x's type, attended and inner have eight bits, eight is x in eight bits, and
    row_scale (blocks, ROW_SCALES) has the scales of each row's blocks: of x, then of attended, then of inner.
    """

    x: Tensor
    square: Tensor
    qkv: Tensor
    attended: Tensor
    inner: Tensor
    logits: Tensor
    part: Tensor
    arrivals: Tensor
    cache: Tensor
    eight: Tensor
    row_scale: Tensor

    @classmethod
    def of(cls, shape: DepthShape, rows: int, like: Tensor) -> DepthBuffers:
        """Raises: ValueError for more rows than scales are kept for."""
        if shape.rounded and 2 * rows > ROW_SCALES.value:
            raise ValueError(f"the depth kernel over int8 takes at most {ROW_SCALES.value // 2} rows; given are {rows}")
        block = shape.row_block
        in_first_pass, in_blocks = -(-2 * rows // block), -(-rows // block)
        num_rows = max(in_first_pass * block, in_blocks * block + rows)  # heads read from row B on
        down = shape.cuts.down
        tiles = shape.parts * -(-2 * rows // down.rows)
        cache = (shape.layers, rows, shape.kv_heads, shape.codebooks, shape.head_dim)

        def zeros(*size: int, dtype: torch.dtype | None = None) -> Tensor:
            return torch.zeros(size, dtype=dtype or like.dtype, device=like.device)

        rows_type = torch.int8 if shape.rounded else None
        return cls(
            x=zeros(num_rows, shape.dim),
            square=zeros(num_rows, shape.parts, dtype=torch.float64),
            qkv=zeros(num_rows, shape.qkv_rows),
            attended=zeros(num_rows, shape.attended, dtype=rows_type),
            inner=zeros(num_rows, shape.ffn, dtype=rows_type),
            logits=zeros(num_rows, shape.codebook_size),
            part=zeros(tiles * shape.splits * down.rows * down.block, dtype=None if shape.rounded else torch.float32),
            arrivals=zeros(tiles, dtype=torch.int32),
            cache=zeros(2, *cache),
            eight=zeros(num_rows if shape.rounded else 1, shape.dim, dtype=torch.int8),
            row_scale=zeros(shape.row_scales if shape.rounded else 1, ROW_SCALES.value, dtype=torch.float32),
        )

    def all(self) -> tuple[Tensor, ...]:
        return (self.x, self.square, self.qkv, self.attended, self.inner, self.logits, self.part, self.arrivals,
                self.cache, self.eight, self.row_scale)  # fmt: skip

    @property
    def keys(self) -> Tensor:
        return self.cache[0]

    @property
    def values(self) -> Tensor:
        return self.cache[1]


class DepthKernel:
    """Makes codebooks 1..K-1 of a frame in one launch. One frame at a time: launches share buffers and the barrier."""

    most_rows: int | None = DEPTH_KERNEL_ROWS

    def __init__(self, weights: DepthWeights, *, programs: int | None = None) -> None:
        """programs: of a launch, all of which must run at once; None is one for each multiprocessor."""
        self.weights = weights
        device = weights.table.device
        if programs is None and device.type == "cuda":
            programs = torch.cuda.get_device_properties(device).multi_processor_count
        self.programs = programs or _HOPPER_PROGRAMS
        self._counter = torch.zeros(1, dtype=torch.int32, device=device)
        self._buffers: dict[int, DepthBuffers] = {}  # by number of rows

    def frame(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Tensor:
        """first, fed: (B, d), inputs of positions 0 and 1 -> the codes (B, K), whose first column is as it was."""
        rows, shape = len(first), self.shape(len(first))
        frame_kernels.depth_frame_kernel[(self.programs,)](
            *self._arguments(first, fed, drawing), self._counter, rows, S=shape, num_warps=shape.cuts.warps,
            num_stages=1, maxnreg=REGISTERS, launch_cooperative_grid=True,
        )  # fmt: skip
        return drawing.codes

    def frame_by_phases(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Iterator[Phase]:
        """The same to the bit with a launch for each phase, so without barriers. Yields each phase that has run."""
        rows, shape = len(first), self.shape(len(first))
        arguments = self._arguments(first, fed, drawing)
        for phase in phases_of(shape.layers, shape.codebooks):
            number, codebook, layer, position = phase
            frame_kernels.depth_phase_kernel[(self.programs,)](
                *arguments, codebook, layer, position, rows, PHASE=number, S=shape, num_warps=shape.cuts.warps,
                num_stages=1,
            )  # fmt: skip
            yield phase

    def buffers(self, rows: int) -> DepthBuffers:
        if rows not in self._buffers:
            self._buffers[rows] = DepthBuffers.of(self.shape(rows), rows, self.weights.table)
        return self._buffers[rows]

    def shape(self, rows: int) -> DepthShape:
        weights, stack = self.weights, self.weights.config.depth_decoder
        config, on_gpu, bits = weights.config, weights.table.is_cuda, 8 * weights.table.element_size()
        row_block, scaled = row_block_of(rows), weights.qkv.dtype != weights.table.dtype
        rounded = weights.qkv.dtype is torch.int8
        return DepthShape(
            dim=stack.dim,
            ffn=stack.ffn_dim,
            heads=stack.num_heads,
            kv_heads=stack.num_kv_heads,
            head_dim=stack.head_dim,
            layers=stack.num_layers,
            codebooks=config.num_codebooks,
            codebook_size=config.codebook_size,
            head_rows=weights.heads.shape[1],
            vocab_size=config.audio_vocab_size,
            eps=stack.norm_eps,
            row_block=row_block,
            members=1 if rows <= _FEW_ROWS else stack.num_heads // stack.num_kv_heads,
            key_bits=bits,
            cuts=cuts_of(row_block, scaled=scaled, rounded=rounded),
            scaled=scaled,
            rounded=rounded,
            prefetches=on_gpu,
            wide=not on_gpu,
        )

    def _arguments(self, first: Tensor, fed: Tensor, drawing: Drawing) -> tuple[Tensor, ...]:
        weights, sampling = self.weights, drawing.sampling
        return (
            first, fed,
            weights.qkv, weights.out, weights.gate_up, weights.down, weights.heads, weights.scales, weights.table,
            weights.rope,
            *self.buffers(len(first)).all(),
            drawing.slots, drawing.frame, sampling.seed, sampling.temperature, sampling.top_k, drawing.codes,
        )  # fmt: skip


def phases_of(layers: int, codebooks: int) -> Iterator[Phase]:
    """The phases of a frame in their order; a barrier is behind each."""
    yield frame_kernels.TAKE.value, 1, 0, 0
    for codebook in range(1, codebooks):
        for layer in range(layers):
            if codebook == 1 or layer > 0:  # else q, k and v came with the code
                yield frame_kernels.QKV.value, codebook, layer, 0
            for position in range(0 if codebook == 1 else codebook, codebook + 1):
                yield frame_kernels.ATTEND.value, codebook, layer, position
            for number in (frame_kernels.OUT, frame_kernels.GATE_UP, frame_kernels.DOWN):
                yield number.value, codebook, layer, 0
        yield frame_kernels.HEAD.value, codebook, 0, 0
        yield frame_kernels.DRAW.value, codebook, 0, 0
