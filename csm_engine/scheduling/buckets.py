"""Buckets: the batch sizes for which CUDA graphs of frame steps and prefill passes are captured. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
PROMPT_TILE = 16  # rows; each prompt of a pass begins at a multiple, so an attention tile has rows of one slot only
MAX_PREFILL_PROMPTS = 16  # of one prefill pass
_SMALLEST_PREFILL_BUCKET = 32  # rows


def buckets_up_to(num_rows: int) -> list[int]:
    """The buckets for batches of 1 to num_rows rows, ascending; the last one is num_rows itself."""
    return [*(bucket for bucket in BUCKETS if bucket < num_rows), num_rows]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds num_rows rows, or the largest bucket. buckets: in ascending order."""
    return buckets[min(bisect_left(buckets, num_rows), len(buckets) - 1)]


def in_tiles(num_rows: int) -> int:
    """num_rows, rounded up to a multiple of PROMPT_TILE."""
    return -(-num_rows // PROMPT_TILE) * PROMPT_TILE


def prefill_buckets_up_to(num_rows: int) -> list[int]:
    """The buckets for passes of 0 to num_rows rows, ascending: 0, powers of two, and num_rows in whole tiles.

    A pass of 0 rows only starts slots whose prompts are already in the cache.
    """
    buckets, bucket = [0], _SMALLEST_PREFILL_BUCKET
    while bucket < in_tiles(num_rows):
        buckets.append(bucket)
        bucket *= 2
    return [*buckets, in_tiles(num_rows)]
