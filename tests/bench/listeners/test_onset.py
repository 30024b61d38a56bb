"""Where speech begins, however the audio is cut."""

from __future__ import annotations

import numpy as np
import pytest

from bench.listeners.onset import LEVEL, AudibleOnset

RATE_HZ = 24_000


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    """16-bit samples whose root mean square is `level` of full scale."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    samples: np.ndarray = np.round(32768 * level * np.sqrt(2) * np.sin(2 * np.pi * 400 * times)).astype("<i2")
    return samples


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ), "<i2")


def onset_of(*parts: np.ndarray, piece: int = 1_920) -> float | None:
    detector = AudibleOnset(RATE_HZ)
    samples = np.concatenate(parts)
    for start in range(0, len(samples), piece):
        detector.feed(samples[start : start + piece].tobytes())
    return detector.position_s


@pytest.mark.parametrize("piece", [1, 7, 240, 1_920, 1_000_000])
def test_speech_begins_after_the_silence_however_it_is_cut(piece: int) -> None:
    assert onset_of(silence(0.2), tone(0.1), piece=piece) == pytest.approx(0.19)  # the window that it begins in


def test_speech_from_the_first_sample_begins_there() -> None:
    assert onset_of(tone(0.05)) == 0.0


def test_silence_never_begins() -> None:
    assert onset_of(silence(2.0)) is None


def test_a_faint_click_is_not_speech() -> None:
    assert onset_of(silence(0.105), tone(0.002, 2 * LEVEL), silence(0.1)) is None


def test_an_offset_without_sound_is_silence() -> None:
    assert onset_of(np.full(RATE_HZ, 9_000, "<i2")) is None


@pytest.mark.parametrize(("level", "heard"), [(0.9 * LEVEL, None), (1.1 * LEVEL, 0.0)])
def test_speech_is_louder_than_the_threshold(level: float, heard: float | None) -> None:
    assert onset_of(tone(0.5, level)) == heard
