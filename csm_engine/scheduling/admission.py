"""Admission by step time: whether one more stream can run without making the others late. No torch, no clock.

A frame is 80 ms of sound, so a step of the whole batch may take at most a share of 80 ms; the rest is for prefill and
for variance. The estimate assumes that a step's time grows in proportion to its rows, which is the worst case. It
follows the most recent steps, so a wrong estimate corrects itself within a few.
"""

from __future__ import annotations

import math

from csm_engine.scheduling.seconds_per_row import SecondsPerRow

FRAME_SECONDS = 0.08


class RealTimeBudget:
    """Limits the batch so that a frame step is expected to fit into a share of a frame's 80 ms.

    share: such as 0.7; 0 sets no limit, so that a free slot is enough.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._limit_s = share * FRAME_SECONDS
        self._seconds_per_row = SecondsPerRow()

    def observe(self, rows: int, seconds: float) -> None:
        """Records that a frame step of `rows` rows took `seconds`."""
        self._seconds_per_row.observe(rows, seconds)

    def reset(self) -> None:
        """Sets no limit until the next step is observed."""
        self._seconds_per_row.reset()

    @property
    def max_rows(self) -> float:
        """Rows of the largest step that is expected to stay within the limit: at least 1, infinity without a limit."""
        if not self._limit_s or not self._seconds_per_row.value:
            return math.inf
        return max(1, self._limit_s // self._seconds_per_row.value)
