"""Batch buckets: the batch sizes for which steps are captured. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def buckets_up_to(num_rows: int) -> list[int]:
    """The buckets for batches of 1 to num_rows rows, ascending; the last one is num_rows itself."""
    return [*(bucket for bucket in BUCKETS if bucket < num_rows), num_rows]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds num_rows rows, or the largest bucket. buckets: in ascending order."""
    return buckets[min(bisect_left(buckets, num_rows), len(buckets) - 1)]
