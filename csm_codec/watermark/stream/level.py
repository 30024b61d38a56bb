"""The running level of a stream, which scales the strength of its mark. No torch.

SilentCipher scales its mark by the level of the whole utterance, which a live stream does not know yet. The running
level is the mean over the frames so far, in which a nominal level stands for the first frames that are missing. So it
starts near that of speech, moves slowly, and ends exactly at the level of the whole utterance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from csm_codec.watermark.stream.progress import START, ClipProgress

# Mean square of the speech that the networks were trained on (VCTK); the package brings every input to it.
NOMINAL_POWER = 0.002837200844477648
FIRST_FRAMES = 8  # that the nominal loudness stands in for; the mark lags by nearly as many
LEAST_POWER = 1e-6  # -60 dBFS: silence is not amplified beyond that


@dataclass(frozen=True, slots=True)
class Level:
    """gain brings the audio to the nominal loudness; magnitude is the rms over all bins of the audio's STFT."""

    gain: float
    magnitude: float


class LevelEstimate(Protocol):
    """The level of one stream."""

    def observe(self, mean_square: float) -> Level:
        """Takes the next frame's mean square over all bins, gives the level to use from here on."""


class RunningLevel:
    """The mean so far, over at least FIRST_FRAMES frames."""

    def __init__(self, n_fft: int, before: ClipProgress = START) -> None:
        """before: the progress of the clip after earlier streams"""
        self._nominal = nominal_magnitude(n_fft)
        self._least = self._nominal * math.sqrt(LEAST_POWER / NOMINAL_POWER)
        self._sum = before.square_sum
        self._frames = before.hops

    def observe(self, mean_square: float) -> Level:
        self._sum += mean_square
        self._frames += 1
        missing = max(0, FIRST_FRAMES - self._frames)
        total = self._sum + missing * self._nominal**2
        magnitude = max(self._least, math.sqrt(total / (self._frames + missing)))
        return Level(self._nominal / magnitude, magnitude)


def nominal_magnitude(n_fft: int) -> float:
    """The rms over all bins of audio of the nominal loudness, seen through a Hann window (mean square 3/8)."""
    return math.sqrt(NOMINAL_POWER * n_fft * 3 / 8)
