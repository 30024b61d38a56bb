"""Slots reserved for a stream between two of its requests. No torch, no clock.

A text is spoken sentence by sentence, and each sentence is a request. Between two of them the stream holds no slot for
a moment. If a new stream took it, there would be more streams than slots, and all of them would run dry in turn.
"""

from __future__ import annotations

from collections import deque

RESERVATION_SECONDS = 0.25  # covers the last frame's way to the engine's caller and the next request's way back


class SlotReservations:
    """Counts reserved slots, which only requests with a listener may take. All times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._expiries: deque[float] = deque()  # ascending

    def __len__(self) -> int:
        return len(self._expiries)

    def reserve(self, now: float) -> None:
        self._expiries.append(now + RESERVATION_SECONDS)

    def claim(self) -> None:
        """Uses up the oldest reservation, if there is one."""
        if self._expiries:
            self._expiries.popleft()

    def drop_expired(self, now: float) -> None:
        while self._expiries and self._expiries[0] <= now:
            self._expiries.popleft()

    def next_expiry(self, now: float) -> float | None:
        """Seconds until the oldest reservation expires; None without one. To be called after `drop_expired`."""
        return self._expiries[0] - now if self._expiries else None
