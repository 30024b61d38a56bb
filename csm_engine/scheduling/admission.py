"""Whether one more stream can run without making the others late. Policy only: no torch, no clock.

A frame is 80 ms of sound, so a step of the whole batch may take at most a share of that; the rest is left for prefill
and the unforeseen. The cost of one more row is taken to be in proportion, which is the worst it can be, from steps that
have just run: an estimate that was wrong mends itself within a few steps.
"""

from __future__ import annotations

FRAME_SECONDS = 0.08
_WEIGHT_OF_LAST = 0.2


class RealTimeBudget:
    """Follows the time of frame steps.

    share: of a frame's 80 ms that a step may take, such as 0.7; 0 admits whoever finds a slot.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._limit = share * FRAME_SECONDS
        self._seconds_per_row = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """A frame step of that many rows took that long."""
        per_row = seconds / rows
        if not self._seconds_per_row:
            self._seconds_per_row = per_row
        self._seconds_per_row += _WEIGHT_OF_LAST * (per_row - self._seconds_per_row)

    def allows(self, rows: int) -> bool:
        """Whether a batch of that many rows is expected to keep up. One row is always let in."""
        return not self._limit or rows <= 1 or rows * self._seconds_per_row <= self._limit
