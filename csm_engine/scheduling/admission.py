"""Admission by step time: whether one more stream can run without making the others late. No torch, no clock.

A frame is 80 ms of sound, so a step of the whole batch may take at most a share of 80 ms. The rest is left for prefill
and for variance. The estimate assumes that a step's time grows in proportion to its rows, which is the worst case. It
comes from the most recent steps, so a wrong estimate corrects itself within a few steps.
"""

from __future__ import annotations

import math

from csm_engine.scheduling.seconds_per_row import SecondsPerRow

FRAME_SECONDS = 0.08


class RealTimeBudget:
    """A running estimate of a frame step's seconds per row, and the limit that it is compared with.

    share: of a frame's 80 ms that a step may take, such as 0.7. 0 sets no limit: a free slot is enough.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._limit = share * FRAME_SECONDS
        self._mean = SecondsPerRow()

    def observe(self, rows: int, seconds: float) -> None:
        """Records that a frame step of `rows` rows took `seconds`."""
        self._mean.observe(rows, seconds)

    def forget(self) -> None:
        """Sets no limit until the next step has been observed."""
        self._mean.forget()

    @property
    def most_rows(self) -> float:
        """Most rows of a step that is expected to stay within the limit: at least 1, infinity without a limit."""
        if not self._limit or not self._mean.value:
            return math.inf
        return max(1, self._limit // self._mean.value)
