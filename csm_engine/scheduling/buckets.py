"""Buckets: the sizes for which steps and prefill passes are captured. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
PROMPT_TILE = 16  # rows; each prompt of a pass begins at a multiple, so a tile of the attention has one slot
MOST_PROMPTS = 16  # prompts of a prefill pass
_LEAST_PREFILL_BUCKET = 32


def buckets_up_to(num_rows: int) -> list[int]:
    """The buckets for batches of 1 to num_rows rows, ascending; the last one is num_rows itself."""
    return [*(bucket for bucket in BUCKETS if bucket < num_rows), num_rows]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds num_rows rows, or the largest bucket. buckets: in ascending order."""
    return buckets[min(bisect_left(buckets, num_rows), len(buckets) - 1)]


def in_tiles(num_rows: int) -> int:
    """num_rows, filled up to whole tiles of PROMPT_TILE rows."""
    return -(-num_rows // PROMPT_TILE) * PROMPT_TILE


def prefill_buckets_up_to(num_rows: int) -> list[int]:
    """The buckets for passes of 0 to num_rows rows, ascending: 0, powers of two, and num_rows in whole tiles.

    A pass of 0 rows only starts slots whose prompts are reused.
    """
    buckets, bucket = [0], _LEAST_PREFILL_BUCKET
    while bucket < in_tiles(num_rows):
        buckets.append(bucket)
        bucket *= 2
    return [*buckets, in_tiles(num_rows)]
