"""How much of a clip is said to be marked."""

from __future__ import annotations

import pytest

from csm_codec.watermark.keys.payload import PERIOD
from csm_codec.watermark.stream.coverage import Coverage, CoverageMeter


@pytest.mark.parametrize(
    ("before", "frames", "hops", "coverage"),
    [
        (0, PERIOD + 1, PERIOD, Coverage.FULL),
        (0, PERIOD, PERIOD - 1, Coverage.PARTIAL),  # one frame more than hops
        (0, PERIOD - 1, 2 * PERIOD, Coverage.PARTIAL),  # others are silent
        (1, PERIOD, PERIOD - 1, Coverage.FULL),
        (PERIOD, 0, 0, Coverage.FULL),
    ],
)
def test_a_message_needs_as_many_hops_as_it_has_symbols(
    before: int, frames: int, hops: int, coverage: Coverage
) -> None:
    meter = CoverageMeter(before)
    for _ in range(frames):
        meter.observe(0.01)
    assert meter.coverage(hops) is coverage
