"""Speech at another speed: its length, pitch and timing are right, and it does not depend on how it is cut."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from csm_codec.resample import Pcm
from csm_codec.stretch import FASTEST, SLOWEST, Stretcher, held_samples

RATE_HZ, FRAME = 24_000, 1920
SPEEDS = (SLOWEST, 0.4, 0.5, 0.7, 0.99, 1.01, 1.25, 1.5, 2.0, 2.5, 3.0, FASTEST)


def speech_like(sample_count: int) -> Pcm:
    """A low voice with a gliding pitch."""
    t = np.arange(sample_count) / RATE_HZ
    phase = 2 * math.pi * (120 * t + 15 * np.sin(2 * math.pi * 1.5 * t))
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.15 * voice * (0.55 + 0.45 * np.sin(2 * math.pi * 4 * t))).astype(np.float32)


def stretched(pcm: Pcm, speed: float, sizes: list[int]) -> list[Pcm]:
    """Stretches in pieces of those sizes; the last size is repeated to the end."""
    stretcher, pieces, sizes = Stretcher(speed, RATE_HZ), [], list(sizes)
    while len(pcm):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(stretcher.push(pcm[:size]))
        pcm = pcm[size:]
    return [*pieces, stretcher.push(pcm, last=True)]


@pytest.mark.parametrize("speed", SPEEDS)
def test_stretched_in_chunks_equals_whole(speed: float) -> None:
    pcm = speech_like(3 * RATE_HZ + 77)
    whole = np.concatenate(stretched(pcm, speed, [len(pcm)]))
    assert len(whole) == math.ceil(len(pcm) / speed) and np.isfinite(whole).all()
    for sizes in ([FRAME], [1, 7, 480, 5000, 333], [FRAME * 3, 1, FRAME]):
        assert np.array_equal(np.concatenate(stretched(pcm, speed, sizes)), whole)


@pytest.mark.parametrize("speed", SPEEDS)
def test_held_back_samples_do_not_exceed_the_stated_latency(speed: float) -> None:
    pcm = speech_like(4 * RATE_HZ)
    made = np.cumsum([len(piece) for piece in stretched(pcm, speed, [FRAME])[:-1]])
    taken = FRAME * np.arange(1, len(made) + 1)
    assert (taken - made * speed).max() <= held_samples(RATE_HZ)


@pytest.mark.parametrize("speed", SPEEDS)
def test_pitch_is_kept(speed: float) -> None:
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    made = np.concatenate(stretched((0.3 * np.sin(2 * math.pi * 440 * t)).astype(np.float32), speed, [FRAME]))
    spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made))))
    assert np.argmax(spectrum) * RATE_HZ / len(made) == pytest.approx(440, rel=0.01)
    assert made[4800:-4800].std() == pytest.approx(0.3 / math.sqrt(2), rel=0.1)


@pytest.mark.parametrize("speed", SPEEDS)
def test_stretched_sound_is_at_the_expected_time(speed: float) -> None:
    """The middles of bursts of a second each, the last one included, are where the speed puts them."""
    pcm = speech_like(6 * RATE_HZ)
    pcm[np.arange(len(pcm)) // RATE_HZ % 2 == 0] = 0
    made = np.concatenate(stretched(pcm, speed, [FRAME]))
    for second in (1, 3, 5):
        start, end = math.floor((second - 0.5) * RATE_HZ / speed), math.ceil((second + 1.5) * RATE_HZ / speed)
        energy = np.square(made[start:end])
        middle_s = (start + (energy * np.arange(len(energy))).sum() / energy.sum()) / RATE_HZ * speed
        ideal = np.square(pcm[second * RATE_HZ : (second + 1) * RATE_HZ])
        assert middle_s == pytest.approx(second + (ideal * np.arange(RATE_HZ)).sum() / ideal.sum() / RATE_HZ, abs=0.1)


@pytest.mark.parametrize("speed", [SLOWEST, 1.5, FASTEST])
@pytest.mark.parametrize("count", [0, 1, 100, FRAME])
def test_short_audio_has_the_stretched_length(speed: float, count: int) -> None:
    assert sum(map(len, stretched(speech_like(count), speed, [FRAME]))) == math.ceil(count / speed)


def test_stretchers_start_no_threads() -> None:
    before = len(os.listdir("/proc/self/task"))
    stretchers = [Stretcher(speed, RATE_HZ) for speed in SPEEDS]
    for stretcher in stretchers:
        stretcher.push(speech_like(FRAME))
    assert len(os.listdir("/proc/self/task")) == before
