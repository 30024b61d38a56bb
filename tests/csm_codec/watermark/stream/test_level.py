"""The running loudness: between the nominal one and that of the audio, and never that of silence."""

from __future__ import annotations

import math

import pytest

from csm_codec.watermark.stream.level import LEAST_POWER, NOMINAL_POWER, RunningLevel, nominal_magnitude
from csm_codec.watermark.stream.progress import ClipProgress

N_FFT = 256
NOMINAL = nominal_magnitude(N_FFT)


def test_silence_counts_as_60_db_below_full_scale() -> None:
    level = RunningLevel(N_FFT)
    for _ in range(20):
        newest = level.observe(0.0)
    assert newest.magnitude == pytest.approx(NOMINAL * math.sqrt(LEAST_POWER / NOMINAL_POWER))
    assert newest.gain * newest.magnitude == pytest.approx(NOMINAL)


def test_the_nominal_loudness_stands_in_for_the_first_eight_frames_of_a_clip_and_no_more() -> None:
    square = 4 * NOMINAL**2
    level = RunningLevel(N_FFT)
    found = [level.observe(square).magnitude / NOMINAL for _ in range(9)]
    assert found == pytest.approx([math.sqrt((4 * n + 8 - n) / 8) for n in range(1, 9)] + [2])
    later = RunningLevel(N_FFT, ClipProgress(hops=3, square_sum=3 * square))
    assert later.observe(square).magnitude / NOMINAL == pytest.approx(found[3])
