"""A clock that tests put forward, so that they need not wait."""

from __future__ import annotations

import time


class Clock:
    """time.monotonic plus the seconds it was put forward by. Event loops use it, so asyncio's timers follow."""

    def __init__(self) -> None:
        self._real, self._ahead_s = time.monotonic, 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead_s

    def put_forward(self, seconds: float) -> None:
        """Timers of the calling loop that are due by then fire. gRPC's own deadlines do not follow."""
        self._ahead_s += seconds
