"""A clock that tests put forward: who waits for an hour of it waits for no real one."""

from __future__ import annotations

import time


class Clock:
    """time.monotonic of the process plus what it was put forward. Event loops follow it, so asyncio's timers do."""

    def __init__(self) -> None:
        self._real, self._ahead_s = time.monotonic, 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead_s

    def put_forward(self, seconds: float) -> None:
        """All that waits in the calling loop for less than this is woken in its next round; gRPC's own deadlines not."""
        self._ahead_s += seconds
