"""The locked vocoder: a function of the frames, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recipes.builtin_voice import vocoder
from recipes.builtin_voice.flite import Utterance
from recipes.builtin_voice.vocoder import (
    FRAME_SIZE,
    GLIDES,
    PARTS,
    PULSES,
    SAMPLE_RATE_HZ,
    Frames,
    frames_of,
    pulse_times,
    synthesize,
)


def head(frames: Frames, count: int) -> Frames:
    return Frames(*(getattr(frames, name)[:count] for name in ("cepstra", "strengths", "pulses", "glide")))


@pytest.mark.parametrize("pulses", PULSES)
@pytest.mark.parametrize("glide", GLIDES)
def test_every_frame_begins_with_a_pulse_and_holds_as_many_as_it_says(pulses: int, glide: int) -> None:
    times = pulse_times(pulses, glide)
    gaps = np.diff([*times, FRAME_SIZE])
    assert len(times) == pulses and times[0] == 0 and (gaps > 0).all()
    assert np.sign(np.round(gaps[0] - gaps[-1], 2)) == glide  # a rising pitch has ever shorter gaps


def test_samples_of_a_frame_do_not_depend_on_later_frames(frames: Frames) -> None:
    short, long = synthesize(head(frames, 20)), synthesize(head(frames, 21))
    assert len(short) == 20 * FRAME_SIZE
    np.testing.assert_array_equal(short, long[: len(short)])


def test_same_frames_sound_the_same_wherever_they_stand(frames: Frames) -> None:
    ten = head(frames, 10)
    twice = Frames(*(np.concatenate([getattr(ten, n)] * 2) for n in ("cepstra", "strengths", "pulses", "glide")))
    pcm = synthesize(twice).reshape(2, -1)
    np.testing.assert_allclose(pcm[1][FRAME_SIZE:], pcm[0][FRAME_SIZE:], atol=1e-5 * np.abs(pcm).max())


def test_pitch_is_that_of_the_pulses(frames: Frames) -> None:
    steady = Frames(
        np.tile(frames.cepstra[0, 0], (10, PARTS, 1)),
        np.ones_like(frames.strengths[:10]),
        np.full(10, 10),
        np.zeros(10, np.int64),
    )
    spectrum = np.abs(np.fft.rfft(synthesize(steady)[FRAME_SIZE:]))
    hertz = np.arange(len(spectrum)) * SAMPLE_RATE_HZ / (9 * FRAME_SIZE)
    harmonic = np.abs(hertz % 125 - 62.5) > 60  # ten pulses in 80 ms
    assert np.square(spectrum[harmonic]).sum() > 0.99 * np.square(spectrum).sum()


def test_postfilter_raises_peaks_over_valleys_and_keeps_the_loudness(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharp = synthesize(frames)
    monkeypatch.setattr(vocoder, "_SHARPER", np.ones_like(vocoder._SHARPER))
    plain = synthesize(frames)
    power = np.square(sharp).sum() / np.square(plain).sum()
    assert abs(10 * np.log10(power)) < 1.0
    spread = [_log_spectrum(pcm).std(axis=1).mean() for pcm in (sharp, plain)]
    assert spread[0] > 1.1 * spread[1]


def _log_spectrum(pcm: np.ndarray) -> np.ndarray:
    """(frames, bins) up to 4 kHz, smoothed over harmonics, of the louder frames."""
    spectra = np.square(np.abs(np.fft.rfft(pcm.reshape(-1, FRAME_SIZE)[:, :1024] * np.hanning(1024))))[:, :170]
    loud = spectra[spectra.sum(axis=1) > np.median(spectra.sum(axis=1))]
    smooth = np.stack([np.convolve(row, np.ones(9) / 9, mode="valid") for row in loud])
    return np.asarray(np.log(smooth))


def test_unvoiced_frames_hold_no_pulses(frames: Frames) -> None:
    unvoiced = replace(head(frames, 10), strengths=np.zeros_like(frames.strengths[:10]))
    other_pitch = replace(unvoiced, pulses=np.full(10, 7))
    np.testing.assert_array_equal(synthesize(unvoiced), synthesize(other_pitch))


def test_tracks_become_whole_frames_with_the_pitch_of_neighbouring_voiced_frames() -> None:
    entries = 3 * PARTS + 5
    pitch = np.full(entries, 150.0, np.float32)
    pitch[PARTS : 2 * PARTS] = 0
    tracks = Utterance(
        np.zeros(0, np.float32), pitch, np.zeros((entries, 25), np.float32), np.ones((entries, 5), np.float32), (), ()
    )
    frames = frames_of(tracks)
    assert frames.pulses.tolist() == [12, 12, 12, 12]  # 150 Hz for 80 ms
    assert not frames.strengths[1].any() and frames.strengths[0].all()
