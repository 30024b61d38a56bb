"""Measures a recording: the level of its speech, and how much of it is silent or clipped. It knows no codec."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csm_codec.resample import Pcm

WINDOW_S = 0.02
SILENCE_DB = -50.0  # RMS of a window, in dB of full scale; below it the window is silent
NO_LEVEL_DB = -200.0
_CLIPPED = 0.999  # of full scale
_CLIPPED_RUN = 3  # samples in a row: a single one may be a peak of the speech


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of one recording."""

    speech_level_db: float  # RMS of the windows that are not silent, in dB of full scale; NO_LEVEL_DB if all are
    silent_ratio: float  # windows that are silent, 0 to 1
    clipped_ratio: float  # samples that are clipped, 0 to 1


def measure(pcm: Pcm, sample_rate_hz: int) -> Levels:
    """pcm: (samples,) float32, -1 to 1, at least one. The last window includes the remaining samples."""
    size = min(len(pcm), max(1, round(WINDOW_S * sample_rate_hz)))
    starts = np.arange(0, len(pcm) - size + 1, size)
    squares = np.square(pcm, dtype=np.float64)
    lengths = np.diff(np.append(starts, len(pcm)))
    power = np.add.reduceat(squares, starts) / lengths
    loud = power > 10 ** (SILENCE_DB / 10)
    level_db = NO_LEVEL_DB
    if loud.any():
        level_db = float(10 * np.log10(np.average(power[loud], weights=lengths[loud])))
    return Levels(level_db, float(1 - loud.mean()), _clipped(pcm))


def _clipped(pcm: Pcm) -> float:
    """Share of the samples in runs at full scale."""
    at_limit = np.concatenate(([0], np.abs(pcm) >= _CLIPPED, [0])).astype(np.int8)
    edges = np.diff(at_limit)
    runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return float(runs[runs >= _CLIPPED_RUN].sum() / len(pcm))
