"""How products are cut into tiles on a Hopper GPU: one entry per matrix shape and row block. Figures, no torch.

What fixes the order of a row's sums is one per matrix, whatever the batch: the kind of tensor core instruction, the
splits, and the width of a block. The rest may be tuned per row block by `python -m bench.tune_product`.
"""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_ROWS, _MOST_ROWS = 16, 128
_BIG_MATRIX = 2**23  # weights; from here on a tile has 64 outputs, for the warp group's instruction
_PROGRAMS = 128  # about as many as there are processors
_LEAST_SPLIT = 512  # inputs


@dataclass(frozen=True, slots=True)
class TileShape:
    """One program's tile and how it runs. A tile of 64 outputs on four warps takes `wgmma`, a smaller one `mma`."""

    output_block: int
    row_block: int
    width_block: int
    splits: int  # parts of the sum over the inputs
    splits_here: int  # parts that one program adds: one or all
    warps: int
    stages: int


# (outputs, inputs, gated, bytes of a weight, row block) -> measured best
MEASURED: dict[tuple[int, int, bool, int, int], TileShape] = {}


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """The backbone's attention: keys of a program (which fix the order of a row's sums), and of a block of them."""

    split: int = 128
    block: int = 64
    warps: int = 4
    stages: int = 3


BACKBONE = BackboneShape()
DEPTH_WARPS = {8: 2, 16: 2, 32: 4}  # of the depth decoder's attention, by keys that a program holds
MOST_DEPTH_KEYS = max(DEPTH_WARPS)
SAMPLER_WARPS = 8


def row_block_of(rows: int) -> int:
    """16, 32, 64 or 128: the smallest that holds the rows, or the largest."""
    block = _LEAST_ROWS
    while block < min(rows, _MOST_ROWS):
        block *= 2
    return block


def tile_shape(outputs: int, width: int, rows: int, *, gated: bool, weight_bytes: int) -> TileShape:
    """outputs: of the product, half of the matrix's rows where gated; weight_bytes: 1, 2 or 4 per weight."""
    rows = row_block_of(rows)
    measured = MEASURED.get((outputs, width, gated, weight_bytes, rows))
    return measured or _unmeasured(outputs, width, rows, gated, weight_bytes)


def _unmeasured(outputs: int, width: int, rows: int, gated: bool, weight_bytes: int) -> TileShape:
    if outputs * width >= _BIG_MATRIX and outputs % 64 == 0:
        splits = 1
        while not gated and outputs // 64 * splits < _PROGRAMS and width // splits >= 2 * _LEAST_SPLIT:
            splits *= 2
        many = rows > 64
        return TileShape(
            output_block=64,
            row_block=rows,
            width_block=64 if gated else 128 // weight_bytes,
            splits=splits,
            splits_here=splits if many else 1,
            warps=8 if many else 4,
            stages=4 if many else 6,
        )
    rows = min(rows, 64)
    return TileShape(16, rows, 128, splits=1, splits_here=1, warps=4, stages=6)
