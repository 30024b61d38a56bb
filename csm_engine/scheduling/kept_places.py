"""Places of streams between two of their requests. No torch, no clock.

A text is said by sentence, each of them a request. Between two its slot is free for a moment. A new stream that took it
would be one more than the engine has slots for, and its listeners would wait in turn for all that follow.
"""

from __future__ import annotations

from collections import deque

KEPT_SECONDS = 0.25  # the last frame's way to the caller of the engine, and the next request's way back


class KeptPlaces:
    """How many are kept, and until when. Only requests with a listener take them."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._ends)

    def keep_one(self, now: float) -> None:
        """now: seconds, by the clock of all other calls"""
        self._ends.append(now + KEPT_SECONDS)

    def take_one(self) -> None:
        """The oldest, if any is kept."""
        if self._ends:
            self._ends.popleft()

    def give_up_old(self, now: float) -> None:
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()

    def next_end(self, now: float) -> float | None:
        """Seconds until the next one is given up; None where none is kept."""
        return max(0.0, self._ends[0] - now) if self._ends else None
