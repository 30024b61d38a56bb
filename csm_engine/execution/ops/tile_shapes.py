"""How products are cut into tiles on a Hopper GPU: one entry per matrix shape and row block. Figures, no torch.

What fixes the order of a row's sums is one per matrix, whatever the batch: the kind of tensor core instruction, the
splits, and the width of a block. The rest may be tuned per row block by `python -m bench.tune_product`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


# (outputs, inputs, gated, bytes of a weight) -> row block -> the best of those that add up in one order, measured on
# an H100 by bench.tune_product. Except: over bfloat16 at more than 16 rows one program adds all splits; over eight
# bits the tile of (8192, 1024) for 64 rows is another, for the measured one spilled registers, and those of (8192,
# 2048) have eight warps, for four issue instructions longer than the weights take to come: those have NOT run on a
# device. With the splits over programs, TileShape(64, 64, 128, 4, 1, 4, 6) of (1024, 8192), products with a norm were
# wrong by 12 to 14 % on an H100 at 33, 64 and 128 rows, differently from run to run, and right at 1 and 16. By the
# compiled code, run on a CPU (tests/compiled), it was the norm, not the splits: see product_kernel.py. Times are from
# before that was changed.
MEASURED: dict[tuple[int, int, bool, int], dict[int, TileShape]] = {
    (8192, 1024, True, 2): {16: TileShape(64, 16, 128, 1, 1, 4, 3), 64: TileShape(64, 64, 128, 1, 1, 4, 3)},
    (1024, 8192, False, 2): {16: TileShape(64, 16, 128, 4, 1, 4, 6), 64: TileShape(64, 64, 128, 4, 4, 4, 4)},
    (1536, 1024, False, 2): {16: TileShape(16, 16, 128, 1, 1, 2, 6), 64: TileShape(16, 64, 128, 1, 1, 4, 6)},
    (1024, 1024, False, 2): {16: TileShape(16, 16, 256, 1, 1, 4, 3), 64: TileShape(16, 64, 256, 1, 1, 4, 3)},
    (2048, 1024, False, 2): {16: TileShape(16, 16, 128, 1, 1, 2, 6), 64: TileShape(16, 64, 128, 1, 1, 4, 6)},
    (8192, 2048, True, 2): {16: TileShape(64, 16, 128, 1, 1, 4, 3), 64: TileShape(64, 64, 128, 1, 1, 4, 3)},
    (2048, 8192, False, 2): {16: TileShape(64, 16, 64, 4, 1, 4, 8), 64: TileShape(64, 64, 64, 4, 4, 4, 8)},
    (3072, 2048, False, 2): {16: TileShape(32, 16, 128, 1, 1, 4, 6), 64: TileShape(32, 64, 128, 1, 1, 4, 6)},
    (2048, 2048, False, 2): {16: TileShape(16, 16, 128, 2, 1, 2, 6), 64: TileShape(16, 64, 128, 2, 2, 4, 6)},
    (8192, 1024, True, 1): {16: TileShape(64, 16, 128, 1, 1, 4, 6), 64: TileShape(64, 64, 64, 1, 1, 4, 6)},
    (1024, 8192, False, 1): {16: TileShape(64, 16, 64, 8, 1, 4, 6), 64: TileShape(64, 64, 64, 8, 1, 4, 6)},
    (1536, 1024, False, 1): {16: TileShape(16, 16, 256, 1, 1, 4, 3), 64: TileShape(16, 64, 256, 1, 1, 4, 3)},
    (1024, 1024, False, 1): {16: TileShape(16, 16, 128, 4, 1, 2, 3), 64: TileShape(16, 64, 128, 4, 1, 4, 3)},
    (8192, 2048, True, 1): {16: TileShape(64, 16, 128, 1, 1, 8, 6), 64: TileShape(64, 64, 64, 1, 1, 8, 6)},
    (2048, 8192, False, 1): {16: TileShape(64, 16, 128, 4, 1, 4, 6), 64: TileShape(64, 64, 128, 4, 1, 4, 6)},
    (3072, 2048, False, 1): {16: TileShape(32, 16, 128, 1, 1, 4, 6), 64: TileShape(32, 64, 128, 1, 1, 4, 6)},
    (2048, 2048, False, 1): {16: TileShape(16, 16, 128, 4, 1, 2, 3), 64: TileShape(16, 64, 128, 4, 1, 2, 3)},
}

# (outputs, inputs, gated) of bfloat16 -> rows up to which our product, with all that stands around it, takes less time
# on an H100 than the vendor's with its norm, gate and sums of splits (bench.lease.kernel_profile): at 1 and at 64 rows,
# us, ours / vendor's. What is not here, or not measured, is the vendor's: tiles that were replaced since are.
FASTER_UP_TO: dict[tuple[int, int, bool], int] = {
    (8192, 1024, True): 64,  # 13.3 / 17.8, 15.2 / 20.5
    (1024, 8192, False): 16,  # 9.3 / 11.0
    (1536, 1024, False): 16,  # 5.4 / 6.7, 10.3 / 6.9
    (1024, 1024, False): 16,  # 4.2 / 4.5, 4.9 / 4.7
    (2048, 1024, False): 16,  # 5.6 / 6.9, 10.4 / 7.2
    (8192, 2048, True): 64,  # 24.8 / 29, 26.9 / 32
    (2048, 8192, False): 16,  # 15.0 / 16.5
}


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """The backbone's attention: keys of a program (which fix the order of a row's sums), and of a block of them."""

    split: int = 256
    block: int = 128
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True, slots=True)
class PromptShape:
    """Attention of prompt rows: keys of a block, whose order is the order of a row's sums. Not measured."""

    block: int = 64
    warps: int = 4
    stages: int = 3


BACKBONE = BackboneShape()
PROMPT = PromptShape()
DEPTH_WARPS = {8: 1, 16: 1, 32: 2}  # of the depth decoder's attention, by keys that a program holds
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
    measured = MEASURED.get((outputs, width, gated, weight_bytes))
    if measured is None:
        return _unmeasured(outputs, width, rows, gated, weight_bytes)
    if rows in measured:
        return measured[rows]
    nearest = measured[max(measured)]
    return replace(nearest, row_block=min(rows, nearest.row_block))


def is_faster(outputs: int, width: int, rows: int, *, gated: bool, weight_bytes: int) -> bool:
    """Whether our product was measured to take less time than the vendor's and what stands around that."""
    return weight_bytes == 2 and rows <= FASTER_UP_TO.get((outputs, width, gated), 0)


def _unmeasured(outputs: int, width: int, rows: int, gated: bool, weight_bytes: int) -> TileShape:
    if outputs * width >= _BIG_MATRIX and outputs % 64 == 0:
        splits = 1
        while not gated and outputs // 64 * splits < _PROGRAMS and width // splits >= 2 * _LEAST_SPLIT:
            splits *= 2
        many = rows > 64
        apart = rows <= (_LEAST_ROWS if weight_bytes >= 2 else 64)  # see MEASURED
        return TileShape(
            output_block=64,
            row_block=rows,
            width_block=64 if gated else 128 // weight_bytes,
            splits=splits,
            splits_here=1 if apart else splits,
            warps=8 if many else 4,
            stages=4 if many else 6,
        )
    rows = min(rows, 64)
    return TileShape(16, rows, 128, splits=1, splits_here=1, warps=4, stages=6)
