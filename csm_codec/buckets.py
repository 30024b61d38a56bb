"""Buckets: the numbers of rows for which decode steps are captured as CUDA graphs. No torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

LEAST = 8  # rows of the smallest bucket; fewer would cost as much


def buckets_up_to(num_rows: int) -> list[int]:
    """Powers of two from LEAST on, ascending; the last one is num_rows itself."""
    buckets, bucket = [], LEAST
    while bucket < num_rows:
        buckets.append(bucket)
        bucket *= 2
    return [*buckets, num_rows]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds num_rows rows. buckets: in ascending order; the last one holds them."""
    return buckets[bisect_left(buckets, num_rows)]
