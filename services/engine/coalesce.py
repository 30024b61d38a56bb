"""How many frames go into the next message. Policy only: no clock of its own, no gRPC.

The first message holds what the caller asked for, as soon as it is there. Later ones may wait for company, but only as
long as the listener has enough to play: a listener who started at the first frame and is `lead` frames short of
running dry gets at least half of that lead in one message.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAME_SECONDS = 0.08
_SHARE_OF_LEAD = 0.5


@dataclass(slots=True)
class Coalescer:
    """One stream's schedule. first: frames of the first message; most: frames of any later one."""

    first: int
    most: int
    _sent: int = 0
    _began: float = 0.0  # when the first frames left, seconds

    def next_count(self, now: float) -> int:
        """Frames to gather before sending; what is there beyond them, up to `limit`, goes along."""
        if not self._sent:
            return self.first
        lead = self._sent - (now - self._began) / FRAME_SECONDS
        return min(max(int(lead * _SHARE_OF_LEAD), 1), self.most)

    @property
    def limit(self) -> int:
        """Most frames of the next message."""
        return self.most if self._sent else self.first

    def sent(self, frames: int, now: float) -> None:
        if not self._sent:
            self._began = now
        self._sent += frames
