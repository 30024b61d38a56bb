"""Changed sample rates, measured against ideal signals."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.audio.encodings import SAMPLE_RATES_HZ
from services.gateway.audio.resampling.resampler import open_resampler

NATURAL_HZ = 24_000
OTHER_RATES_HZ = [rate for rate in SAMPLE_RATES_HZ if rate != NATURAL_HZ]


def tone(hz: float, sample_count: int, rate_hz: int) -> np.ndarray:
    return 16_000 * np.sin(2 * math.pi * hz * np.arange(sample_count) / rate_hz)


def resampled(samples: np.ndarray, to_hz: int, pieces: list[int] | None = None) -> np.ndarray:
    """Resamples in pieces of these lengths, repeated; in one piece when None."""
    content = samples.round().astype("<i2").tobytes()
    resampler = open_resampler(NATURAL_HZ, to_hz)
    made, at, turn = b"", 0, 0
    while at < len(content):
        size = 2 * pieces[turn % len(pieces)] if pieces else len(content)
        made += resampler.push(content[at : at + size])
        at, turn = at + size, turn + 1
    return np.frombuffer(made + resampler.flush(), "<i2")


@pytest.mark.parametrize("to_hz", OTHER_RATES_HZ)
def test_1_khz_passes_in_place_with_80_db(to_hz: int) -> None:
    made = resampled(tone(1000, NATURAL_HZ, NATURAL_HZ), to_hz).astype(float)
    ideal = tone(1000, to_hz, to_hz)  # in phase: a delay would be an error
    assert len(made) == to_hz
    inner = slice(to_hz // 50, -to_hz // 50)
    error = (made - ideal)[inner]
    assert 10 * math.log10((ideal[inner] ** 2).sum() / (error**2).sum()) > 80


@pytest.mark.parametrize("to_hz", OTHER_RATES_HZ)
def test_silence_stays_silent(to_hz: int) -> None:
    made = resampled(np.zeros(9_999), to_hz)
    assert not made.any() and len(made) == math.ceil(9_999 * to_hz / NATURAL_HZ)


@pytest.mark.parametrize("to_hz", [8_000, 11_025, 12_000, 16_000])
def test_frequencies_above_the_new_rate_are_removed(to_hz: int) -> None:
    made = resampled(tone(0.62 * to_hz, NATURAL_HZ, NATURAL_HZ), to_hz).astype(float)
    assert abs(made[to_hz // 50 : -to_hz // 50]).max() < 16


@pytest.mark.parametrize("to_hz", [32_000, 44_100, 48_000])
def test_nothing_is_added_above_the_old_band(to_hz: int) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, NATURAL_HZ)
    power = np.abs(np.fft.rfft(resampled(noise, to_hz) * np.hanning(to_hz))) ** 2  # a bin per Hz
    assert power[13_500:].sum() < 1e-6 * power[:11_000].sum()


@given(st.sampled_from(OTHER_RATES_HZ), st.integers(1, 3000), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_chunked_equals_whole_and_counts_are_exact(to_hz: int, sample_count: int, pieces: list[int]) -> None:
    samples = np.random.default_rng(sample_count).normal(0, 5000, sample_count)
    whole = resampled(samples, to_hz)
    assert len(whole) == math.ceil(sample_count * to_hz / NATURAL_HZ)
    assert np.array_equal(resampled(samples, to_hz, pieces), whole)


def test_chunked_equals_whole_over_a_minute() -> None:
    samples = np.random.default_rng(7).normal(0, 5000, 60 * NATURAL_HZ)
    pieces = [random.Random(7).randrange(1, 9000) for _ in range(50)]
    for to_hz in (8_000, 44_100):
        whole = resampled(samples, to_hz)
        assert len(whole) == 60 * to_hz
        assert np.array_equal(resampled(samples, to_hz, pieces), whole)


@pytest.mark.parametrize("to_hz", OTHER_RATES_HZ)
def test_at_most_5_ms_are_held_back(to_hz: int) -> None:
    resampler = open_resampler(NATURAL_HZ, to_hz)
    assert len(resampler.push(bytes(2 * 1920))) / 2 / to_hz > 0.075


def test_same_rate_changes_nothing() -> None:
    resampler = open_resampler(16_000, 16_000)
    assert resampler.push(b"abcd") + resampler.flush() == b"abcd"
