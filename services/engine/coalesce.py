"""Decides how many frames go into the next message. It knows no clock and no gRPC.

The first message holds the frames that the caller asked for, as soon as they are generated. Later messages may gather
more frames while the player has audio left. A player that started at the first frame and has `lead` frames left gets at
least half of that lead in one message.
"""

from __future__ import annotations

from dataclasses import dataclass

from csm_engine.scheduling.admission import FRAME_SECONDS

_SHARE_OF_LEAD = 0.5


@dataclass(slots=True)
class Coalescer:
    """One stream's schedule.

    first: frames of the first message; most: frames of any later one; speed: at which they are played
    """

    first: int
    most: int
    speed: float = 1.0
    _sent: int = 0
    _began: float = 0.0  # when the first frames left, seconds

    def next_count(self, now: float) -> int:
        """Frames to gather before sending; what is there beyond them, up to `limit`, goes along."""
        if not self._sent:
            return self.first
        lead = self._sent - (now - self._began) * self.speed / FRAME_SECONDS
        return min(max(int(lead * _SHARE_OF_LEAD), 1), self.most)

    @property
    def limit(self) -> int:
        """Most frames of the next message."""
        return self.most if self._sent else self.first

    def sent(self, frames: int, now: float) -> None:
        if not self._sent:
            self._began = now
        self._sent += frames
