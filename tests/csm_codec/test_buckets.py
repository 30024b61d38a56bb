"""For which numbers of rows steps are captured, and which of them a step takes."""

from __future__ import annotations

import pytest

from csm_codec.buckets import bucket_of, buckets_up_to


@pytest.mark.parametrize(
    ("num_rows", "buckets"), [(1, [1]), (8, [8]), (9, [8, 9]), (16, [8, 16]), (20, [8, 16, 20]), (64, [8, 16, 32, 64])]
)
def test_a_step_takes_the_smallest_bucket_that_holds_its_rows(num_rows: int, buckets: list[int]) -> None:
    """No number of rows is captured twice."""
    assert buckets_up_to(num_rows) == buckets
    for rows in range(num_rows + 1):
        assert bucket_of(rows, buckets) == min(bucket for bucket in buckets if bucket >= rows)
