"""Sizes of the depth decoder and how its frame is cut into tiles: one constant of the kernels. Figures, no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


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
    narrow_block: int = 16  # outputs of a tile of qkv and heads
    output_block: int = 32  # outputs of a tile of the other products
    splits: int = 4  # of the sums of `out` and `down`
    width_block: int = 128  # inputs that one step of a product multiplies, at most
    narrow_width: int = 256  # the same for qkv and heads
    stages: int = 4  # steps whose weights are on their way
    asking: int = 0  # threads of a program that ask for weights ahead; 0: none do
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
        return self.dim // self.output_block

    @property
    def wide_step(self) -> int:
        return min(self.width_block, self.dim)

    @property
    def narrow_step(self) -> int:
        return min(self.narrow_width, self.dim)

    @property
    def out_step(self) -> int:
        return min(self.width_block, self.attended // self.splits)

    @property
    def down_step(self) -> int:
        return min(self.width_block, self.ffn // self.splits)

    @property
    def keys(self) -> int:
        """Keys that attention holds, a power of two."""
        return max(8, 1 << (self.codebooks - 1).bit_length())
