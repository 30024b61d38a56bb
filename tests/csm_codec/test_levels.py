"""Levels of recordings: loudness, silence, clipping."""

from __future__ import annotations

import numpy as np
import pytest

from csm_codec.levels import measure
from csm_codec.resample import Pcm

RATE_HZ = 8000


def sine(seconds: float, amplitude: float) -> Pcm:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * 200 * times)).astype(np.float32)


def test_level_of_a_sine_is_3_db_below_its_peak() -> None:
    assert measure(sine(1, 0.5), RATE_HZ).speech_level_db == pytest.approx(-6.02 - 3.01, abs=0.05)


def test_silence_counts_in_its_ratio_and_not_in_the_level() -> None:
    """Also that of a pause within a word: both are measured in windows of 20 ms."""
    levels = measure(np.tile(np.concatenate((sine(0.1, 0.5), np.zeros(3 * RATE_HZ // 10, np.float32))), 10), RATE_HZ)
    assert levels.silent_ratio == pytest.approx(0.75, abs=0.01)
    assert levels.speech_level_db == pytest.approx(-9.03, abs=0.1)


@pytest.mark.parametrize("length", [1, 7, RATE_HZ])
def test_silent_recording_has_no_level(length: int) -> None:
    levels = measure(np.zeros(length, np.float32), RATE_HZ)
    assert (levels.speech_level_db, levels.silent_ratio, levels.clipped_ratio) == (-200.0, 1.0, 0.0)


def test_runs_at_full_scale_are_clipped_and_single_peaks_are_not() -> None:
    pcm = sine(1, 0.5)
    pcm[100] = 1.0
    pcm[200:202] = -1.0
    assert measure(pcm, RATE_HZ).clipped_ratio == 0
    pcm[300:308] = -1.0
    assert measure(pcm, RATE_HZ).clipped_ratio == pytest.approx(8 / RATE_HZ)
    assert measure(np.clip(sine(1, 2), -1, 1), RATE_HZ).clipped_ratio > 0.5
