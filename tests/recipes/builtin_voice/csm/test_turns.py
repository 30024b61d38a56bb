"""Turns are what the tracks say, exactly and as a recording of them is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recipes.builtin_voice.codec.quantizer import DIM, Quantizer, train_quantizer
from recipes.builtin_voice.csm.turns import MISHEARD_PITCHES, PHONE_PARTS, misheard, open_turns
from recipes.builtin_voice.flite import NUM_BANDS, NUM_CEPSTRA, Phone, Utterance
from recipes.builtin_voice.tracks import write_tracks
from recipes.builtin_voice.vocoder import PARTS, Frames


@pytest.fixture(scope="module")
def quantizer(frames: Frames) -> Quantizer:
    return train_quantizer(frames, num_codebooks=4, bins=96)


def test_misheard_frames_keep_most_pitches_and_half_of_the_spectrum(quantizer: Quantizer, frames: Frames) -> None:
    codes = misheard(frames, quantizer, np.random.default_rng(0))
    heard = quantizer.decode(codes.astype(np.int64))
    assert 1 - 1.5 * MISHEARD_PITCHES < (heard.pulses == frames.pulses).mean() < 1
    assert (
        abs(heard.pulses - frames.pulses) <= 1
    ).mean() > 0.97  # where there is no such pitch, the nearest code is taken
    latents = quantizer.latents(frames)
    exact = (codes[:, 1:] == quantizer.encode(latents)[:, 1:]).mean()
    assert exact < 0.9
    error = (quantizer.latents(heard)[:, DIM:] - latents[:, DIM:]).square().sum() / latents[:, DIM:].square().sum()
    assert error < 0.75


def test_turns_are_made_once_for_each_file_of_tracks(quantizer: Quantizer, tmp_path: Path) -> None:
    quantizer.save(tmp_path / "quantizer.pt")
    write_tracks(
        tmp_path / "tracks-train.npz", iter([("One.", 0, _utterance(2, "w")), ("Two.", 1, _utterance(3, "t"))])
    )
    write_tracks(tmp_path / "tracks-train-2.npz", iter([("Three.", 0, _utterance(1, "th"))]))
    turns, names = open_turns(tmp_path, "train")
    assert [(turn.text, turn.voice, len(turn.codes)) for turn in turns] == [
        ("One.", 0, 2),
        ("Two.", 1, 3),
        ("Three.", 0, 1),
    ]
    assert names == ["pau", "w", "t"]
    assert [turn.phones.tolist() for turn in turns] == [
        [[phone] * len(PHONE_PARTS)] * count
        for phone, count in ((1, 2), (2, 3), (0, 1))  # "th" has no name there
    ]
    (tmp_path / "tracks-train.npz").write_bytes(b"not read again")
    again, _ = open_turns(tmp_path, "train")
    np.testing.assert_array_equal(again[0].codes, turns[0].codes)
    np.testing.assert_array_equal(again[0].heard, turns[0].heard)


def _utterance(num_frames: int, phone: str) -> Utterance:
    entries = num_frames * PARTS
    return Utterance(
        pcm=np.zeros(0, np.float32),
        pitch_hz=np.full(entries, 120, np.float32),
        cepstra=np.full((entries, NUM_CEPSTRA), 0.1, np.float32),
        strengths=np.full((entries, NUM_BANDS), 0.5, np.float32),
        phones=(Phone(phone, entries * 0.005),),
    )
