"""Opus in training and in the judgement is the real codec, and keeps the timing."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.builtin_voice.watermark.channel import opus_round_trip


@pytest.fixture(scope="module")
def hum() -> np.ndarray:
    """Two seconds of harmonics with a pitch that rises, under an envelope."""
    time_s = np.arange(48_001) / 24_000
    waves = sum(np.sin(2 * np.pi * number * (120 * time_s + 20 * time_s**2)) / number for number in range(1, 20))
    return np.asarray(0.1 * waves * (1 + np.sin(9 * time_s)), np.float32)


def test_opus_keeps_length_and_timing_and_loses_more_at_fewer_bits(hum: np.ndarray) -> None:
    ratios_db = []
    for kbit_per_s in (12, 24, 64):
        heard = opus_round_trip(hum, kbit_per_s)
        assert heard.shape == hum.shape and heard.dtype == np.float32
        inside = hum[1000:-1000]
        alike = [float(inside @ heard[1000 + lag : len(heard) - 1000 + lag]) for lag in range(-50, 51)]
        assert abs(int(np.argmax(alike)) - 50) <= 1
        ratios_db.append(10 * np.log10(np.sum(hum**2) / np.sum((hum - heard) ** 2)))
    assert ratios_db == sorted(ratios_db)
    assert ratios_db[0] > 5
