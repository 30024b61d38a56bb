"""Sizes of the depth decoder and how its frame is cut into tiles: one constant of the kernels. Figures, no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Cut:
    """How a product is cut into tiles and steps.

    block: outputs of a tile; width: inputs that a step multiplies, at most; stages: one more than the steps that shared
    memory holds, in 160 KiB at most; rows: of a tile, at most.
    """

    block: int
    width: int
    stages: int
    rows: int = 32


@dataclass(frozen=True, slots=True)
class Cuts:
    """Of each product. `out` and `down`, whose outputs are added to x, have the same block.

    splits: of the sums of `down`, the same at any batch. warps: of a program. Where there are two for each part of a
    multiprocessor, they fill each other's waits, and read the same rows from shared memory twice.
    """

    qkv: Cut
    out: Cut
    gate_up: Cut
    down: Cut
    heads: Cut
    splits: int = 4
    warps: int = 4


_MANY_ROWS = 64  # the row block of a batch of more than 32
ROUNDED_BLOCK = 64  # inputs of a row in eight bits that share a scale: the outputs of the tile that makes them
# (eight bits, many rows) -> cuts. Widened weights of a step must fit into registers beside the sums.
CUTS = {
    (False, False): Cuts(Cut(16, 256, 5), Cut(32, 128, 8), Cut(64, 128, 5), Cut(32, 128, 8), Cut(16, 256, 5)),
    (False, True): Cuts(Cut(32, 128, 7), Cut(64, 128, 5), Cut(64, 64, 7, 64), Cut(64, 128, 5), Cut(64, 128, 7)),
    (True, False): Cuts(Cut(16, 256, 6), Cut(32, 128, 8), Cut(64, 128, 7), Cut(32, 128, 8), Cut(16, 256, 6)),
    (True, True): Cuts(Cut(32, 128, 6), Cut(32, 128, 8), Cut(64, 64, 8, 64), Cut(32, 128, 8), Cut(64, 128, 7), warps=8),
}
# Where rows have eight bits too: many rows -> cuts. Tiles that make rows have ROUNDED_BLOCK outputs at any batch.
ROUNDED_CUTS = {
    False: Cuts(
        Cut(32, 256, 5, 16), Cut(64, 256, 4, 16), Cut(64, 256, 4), Cut(64, 256, 4), Cut(32, 256, 5), splits=8
    ),
    True: Cuts(
        Cut(64, 256, 4, 16), Cut(64, 256, 4, 16), Cut(64, 128, 7, 64), Cut(64, 128, 7, 64), Cut(64, 128, 7),
        splits=8, warps=8,
    ),
}  # fmt: skip


def cuts_of(row_block: int, *, scaled: bool, rounded: bool = False) -> Cuts:
    many = row_block >= _MANY_ROWS
    cuts = ROUNDED_CUTS[many] if rounded else CUTS[scaled, many]

    def at_most(cut: Cut) -> Cut:
        return replace(cut, rows=min(cut.rows, row_block))

    return replace(
        cuts,
        qkv=at_most(cuts.qkv),
        out=at_most(cuts.out),
        gate_up=at_most(cuts.gate_up),
        down=at_most(cuts.down),
        heads=at_most(cuts.heads),
    )


@dataclass(frozen=True, slots=True)
class DepthShape:
    """All powers of two, but for codebooks, layers and head_rows. Nothing of it that fixes an order of sums (the widths
    of splits and the instruction of tensor cores) depends on the batch.
    """

    dim: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    codebooks: int
    codebook_size: int
    head_rows: int  # of a head's matrix
    vocab_size: int  # rows of the table of inputs per codebook
    eps: float
    row_block: int
    members: int  # query heads that one program attends with
    key_bits: int  # of a logit: 16 for bfloat16
    cuts: Cuts
    scaled: bool = False  # matrices of layers have eight bits and a scale for each output
    rounded: bool = False  # rows that they multiply have eight bits, and a scale for each block of inputs
    prefetches: bool = False  # weights, into the L2 cache
    wide: bool = False  # products in float32, for Triton's interpreter
    patience: int = 2**23  # how often a barrier looks; some seconds, where it takes microseconds

    def mangle(self) -> str:
        """What Triton names functions by that have this as an argument: letters and figures."""
        return f"S{zlib.crc32(repr(self).encode()):08x}"

    @property
    def qkv_rows(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def attended(self) -> int:
        return self.heads * self.head_dim

    @property
    def parts(self) -> int:
        """Sums of squares of a row."""
        return self.dim // self.cuts.out.block

    @property
    def outputs(self) -> int:
        """Of all matrices of a layer."""
        return self.qkv_rows + 2 * self.dim + 2 * self.ffn

    @property
    def gate_up_step(self) -> int:
        return min(self.cuts.gate_up.width, self.dim)

    @property
    def qkv_step(self) -> int:
        return min(self.cuts.qkv.width, self.dim)

    @property
    def heads_block(self) -> int:
        return min(self.cuts.heads.block, self.codebook_size)

    @property
    def heads_step(self) -> int:
        return min(self.cuts.heads.width, self.dim)

    @property
    def out_step(self) -> int:
        return min(self.cuts.out.width, self.attended)

    @property
    def down_step(self) -> int:
        return min(self.cuts.down.width, self.ffn // self.splits)

    @property
    def splits(self) -> int:
        """Of the sums of `down`. A split of rows in eight bits has whole blocks of them."""
        return min(self.cuts.splits, self.ffn // ROUNDED_BLOCK) if self.rounded else self.cuts.splits

    @property
    def value_bytes(self) -> int:
        """Of a weight of the heads."""
        return self.key_bits // 8

    @property
    def weight_bytes(self) -> int:
        """Of a weight of the layers."""
        return 1 if self.scaled else self.value_bytes

    @property
    def x_block(self) -> int:
        """Inputs that share a scale, 0 where rows are not rounded: the outputs of the tile that made them."""
        return self.cuts.out.block if self.rounded else 0

    @property
    def attended_block(self) -> int:
        return self.head_dim if self.rounded else 0

    @property
    def inner_block(self) -> int:
        return self.cuts.gate_up.block if self.rounded else 0

    @property
    def row_scales(self) -> int:
        """Blocks of x, of the attended values and of the gated ones, in this order."""
        return self.parts + self.heads + self.ffn // self.cuts.gate_up.block

    @property
    def keys(self) -> int:
        """Keys that attention holds, a power of two."""
        return max(8, 1 << (self.codebooks - 1).bit_length())
