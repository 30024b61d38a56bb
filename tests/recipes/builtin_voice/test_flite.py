"""Flite's tracks belong to flite's own sound. Needs Debian's flite."""

from __future__ import annotations

import ctypes.util

import numpy as np
import pytest

from recipes.builtin_voice.flite import NUM_BANDS, NUM_CEPSTRA, SAMPLE_RATE_HZ, TRACK_SECONDS, VOICES, tracks_of, utter

pytestmark = pytest.mark.skipif(ctypes.util.find_library("flite") is None, reason="flite is not installed")


@pytest.mark.parametrize("voice", VOICES)
def test_tracks_have_the_length_and_loudness_of_the_sound(voice: str) -> None:
    said = utter("Hello from the other side.", voice)
    entries = len(said.pitch_hz)
    assert said.cepstra.shape == (entries, NUM_CEPSTRA) and said.strengths.shape == (entries, NUM_BANDS)
    assert len(said.pcm) / SAMPLE_RATE_HZ == pytest.approx(entries * TRACK_SECONDS, abs=0.02)
    size = round(SAMPLE_RATE_HZ * TRACK_SECONDS)
    loudness = np.log(np.square(said.pcm[: (entries - 1) * size]).reshape(entries - 1, size).mean(axis=1) + 1e-9)
    assert np.corrcoef(loudness, said.cepstra[:-1, 0])[0, 1] > 0.8
    assert [phone.name for phone in said.phones][:3] == ["pau", "hh", "ax"]
    assert said.phones[-1].end_seconds == pytest.approx(entries * TRACK_SECONDS, abs=0.02)


def test_saying_it_again_has_the_same_tracks() -> None:
    """Not the same samples: flite's noise goes on from where it was."""
    one, other = utter("Again.", "slt"), utter("Again.", "slt")
    np.testing.assert_array_equal(one.pitch_hz, other.pitch_hz)
    np.testing.assert_array_equal(one.cepstra, other.cepstra)


def test_tracks_alone_are_those_of_the_sound_and_the_voice_speaks_on() -> None:
    before, alone, after = utter("And again.", "rms"), tracks_of("And again.", "rms"), utter("And again.", "rms")
    np.testing.assert_array_equal(alone.cepstra, before.cepstra)
    np.testing.assert_array_equal(alone.strengths, before.strengths)
    assert alone.phones == before.phones
    assert (len(alone.pcm), len(after.pcm)) == (0, len(before.pcm))


def test_voices_differ_in_pitch() -> None:
    pitches = [utter("Hello.", voice).pitch_hz for voice in VOICES]
    assert np.median(pitches[0][pitches[0] > 0]) > 1.4 * np.median(pitches[1][pitches[1] > 0])
