"""The look-ahead of the mark, in frames: short at the start of a stream, then longer. No torch.

The networks look a few STFT frames ahead, and audio waits that long for its mark. At the start of a stream this delay
is noticed, so the first frames are marked as if the clip ended right after them. Later, when audio is ahead of
playback, the look-ahead grows to the networks' own, and the mark is that of the whole clip. The schedule depends on the
frame's index only, so the same codes always give the same audio.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAMES_PER_GROWTH = 8


@dataclass(frozen=True, slots=True)
class LookAhead:
    """The schedule, in STFT frames. Larger values than the networks' own look-ahead have no further effect."""

    first: int  # at the start
    frames_per_growth: int  # after so many frames one frame of look-ahead is added
    most: int

    def at(self, frame: int) -> int:
        """The look-ahead when `frame` has come in. It never falls, and grows by at most one per frame."""
        return min(self.most, self.first + frame // self.frames_per_growth)


_ALL = 2**31
FULL = LookAhead(first=_ALL, frames_per_growth=1, most=_ALL)
ADAPTIVE = LookAhead(first=0, frames_per_growth=FRAMES_PER_GROWTH, most=_ALL)
