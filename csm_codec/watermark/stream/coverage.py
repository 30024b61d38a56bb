"""Whether a clip can carry a whole watermark message: it must be long enough and audible. No torch."""

from __future__ import annotations

import math
from enum import Enum

from csm_codec.watermark.keys.payload import PERIOD

SILENCE_DBFS = -60.0  # RMS of a frame, below which the mark is lost in the rounding to 16 bits


class Coverage(Enum):
    """How much of the mark the audio carries."""

    FULL = "full"  # at least one whole message's worth of audible frames
    PARTIAL = "partial"


class CoverageMeter:
    """Counts the audible frames of one clip. Each frame carries one symbol of the message."""

    def __init__(self, audible_frames: int = 0, observed: int = 0) -> None:
        """audible_frames: of the clip before this stream. observed: of this stream before it was resumed"""
        self._before = audible_frames
        self._audible = observed

    def observe(self, power: float) -> None:
        """power: mean square of a frame's samples."""
        if power > 0 and 10 * math.log10(power) > SILENCE_DBFS:
            self._audible += 1

    def coverage(self, hops: int) -> Coverage:
        """How much of the clip so far is marked. hops: as for `audible_frames`"""
        return Coverage.FULL if self.audible_frames(hops) >= PERIOD else Coverage.PARTIAL

    @property
    def observed(self) -> int:
        """Audible frames of this stream."""
        return self._audible

    def audible_frames(self, hops: int) -> int:
        """Audible frames of the clip so far. hops: of this stream's audio; its first and last frame share one hop"""
        return self._before + min(self._audible, hops)
