"""Decides how many frames go into the next message. It knows no clock and no gRPC.

The first message has as many frames as it must have. Later messages wait for more frames while the player has audio
left: for half of the frames that a player still has to play if it started with the first message.
"""

from __future__ import annotations

from dataclasses import dataclass

_SHARE_OF_LEAD = 0.5


@dataclass(slots=True)
class Coalescer:
    """The message sizes of one stream.

    first: frames of the first message; most: limit of later ones; frame_s: seconds of a frame; speed: of playback
    """

    first: int
    most: int
    frame_s: float
    speed: float = 1.0
    _sent: float = 0.0  # frames
    _first_sent_at: float = 0.0  # seconds

    def next_count(self, now: float) -> int:
        """Frames to wait for before sending. More, up to `limit`, are sent if they are there. now: seconds"""
        if not self._sent:
            return self.first
        lead_frames = self._sent - (now - self._first_sent_at) * self.speed / self.frame_s
        return int(min(max(lead_frames * _SHARE_OF_LEAD, 1), self.most))

    @property
    def limit(self) -> int:
        """Most frames of the next message."""
        return self.most if self._sent else self.first

    def sent(self, frames: float, now: float) -> None:
        """frames: as many as the message's audio lasts"""
        if not self._sent:
            self._first_sent_at = now
        self._sent += frames
