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
        """Wakes what waits in the calling loop for no longer than this. gRPC's own deadlines stay."""
        self._ahead_s += seconds
