"""The resampler that must not wait, against tones and against itself in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from csm_codec.watermark.stream.block_resample import BlockResampler, block_resample

PAIRS = pytest.mark.parametrize(
    ("rate_hz", "wanted_hz"), [(24000, 44100), (44100, 24000), (24000, 48000), (16000, 24000)]
)


def _tone(hertz: float, rate_hz: int, length: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(length) / rate_hz).astype(np.float32)


@PAIRS
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_tones_below_nine_tenths_of_the_band_stay(rate_hz: int, wanted_hz: int, share: float) -> None:
    hertz = share * min(rate_hz, wanted_hz) / 2
    found = block_resample(_tone(hertz, rate_hz, rate_hz // 4), rate_hz, wanted_hz)
    error = (found - _tone(hertz, wanted_hz, len(found)))[500:-500]
    assert np.abs(error).max() < 1e-4


def test_frequencies_above_the_lower_rate_are_removed() -> None:
    found = block_resample(_tone(13_500, 44100, 11025), 44100, 24000)
    assert np.abs(found[500:-500]).max() < 1e-4


@PAIRS
@pytest.mark.parametrize("length", [0, 1, 79, 80, 5000, 24_007])
def test_pieces_are_the_whole_bit_for_bit(rate_hz: int, wanted_hz: int, length: int) -> None:
    random = np.random.default_rng(length)
    pcm = random.standard_normal(length).astype(np.float32)
    whole = block_resample(pcm, rate_hz, wanted_hz)
    assert len(whole) == round(length * wanted_hz / rate_hz)
    resampler = BlockResampler(rate_hz, wanted_hz)
    pieces = np.split(pcm, np.sort(random.integers(0, length + 1, 9)))
    given = [resampler.push(piece, last=index == 9) for index, piece in enumerate(pieces)]
    assert np.array_equal(np.concatenate(given), whole)


@PAIRS
def test_the_lag_equals_the_stated_one(rate_hz: int, wanted_hz: int) -> None:
    resampler = BlockResampler(rate_hz, wanted_hz)
    came, lags = 0, []
    for received in range(1, 1500):
        came += len(resampler.push(np.zeros(1, np.float32)))
        assert came == resampler.ready(received)
        lags.append(received - came * rate_hz / wanted_hz)
    assert max(lags) == resampler.lag_samples


def test_equal_rates_do_not_lag() -> None:
    resampler = BlockResampler(24000, 24000)
    assert len(resampler.push(np.zeros(7, np.float32))) == resampler.ready(7) == 7
    assert resampler.lag_samples == 0
