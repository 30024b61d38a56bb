"""How far into the future the mark of a frame looks, frame by frame: little at first, then more. No torch.

The networks look a few STFT frames ahead, and audio waits that long for its mark. At the start of a stream this delay
is noticed, so the first frames are marked as if the clip ended right behind them. Later, when more audio has been made
than played, the look-ahead grows to the networks' own, and the mark is that of the whole clip. The schedule counts
frames and nothing else, so the same codes always give the same audio.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAMES_PER_GROWTH = 8


@dataclass(frozen=True, slots=True)
class LookAhead:
    """All in STFT frames. Values beyond what the networks can use mean all that they can."""

    first: int  # at the start
    frames_per_growth: int  # after so many frames one frame of look-ahead is added
    most: int

    def at(self, frame: int) -> int:
        """The look-ahead once that frame has come in; it never falls, and grows by at most one per frame."""
        return min(self.most, self.first + frame // self.frames_per_growth)


_ALL = 2**31
FULL = LookAhead(first=_ALL, frames_per_growth=1, most=_ALL)
ADAPTIVE = LookAhead(first=0, frames_per_growth=FRAMES_PER_GROWTH, most=_ALL)
