"""A file of turns holds what was said, and its codes in ten bits each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recipes.builtin_voice.codec.quantizer import Quantizer, train_quantizer
from recipes.builtin_voice.csm import turns as turns_module
from recipes.builtin_voice.csm.turns import PHONE_PARTS, PHONES, packed, read_turns, turn_files, unpacked, write_turns
from recipes.builtin_voice.flite import NUM_BANDS, NUM_CEPSTRA, Phone, Utterance, Word
from recipes.builtin_voice.vocoder import PARTS, Frames, frames_of


@pytest.fixture(scope="module")
def quantizer(frames: Frames) -> Quantizer:
    return train_quantizer(frames, num_codebooks=4, bins=96)


@pytest.mark.parametrize("count", [1, 3, 8, 101])
def test_packed_codes_come_back(count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 1024, (count, 8)).astype(np.int16)
    data = packed(codes)
    assert len(data) == count * 10
    np.testing.assert_array_equal(unpacked(data, count), codes.reshape(count, -1))


def test_a_file_of_turns_holds_texts_and_codes(
    quantizer: Quantizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [("One.", 0, utterance(2, "w")), ("Two!", 1, utterance(3, "t"))]

    def speak(texts: Iterator[str]) -> Iterator[tuple[str, int, Utterance]]:
        assert list(texts) == ["One.", "Two!"]
        return iter(said)

    monkeypatch.setattr(turns_module, "speak", speak)
    path = tmp_path / "turns-train-00000.npz"
    write_turns(path, iter(["One.", "Two!"]), quantizer)
    assert turn_files(tmp_path, "train") == [path] and list(tmp_path.iterdir()) == [path]
    turns = read_turns(path)
    assert turns.texts == ["One.", "Two!"] and turns.voices.tolist() == [0, 1]
    assert turns.symbols == ["W .", "T !"]
    assert turns.starts.tolist() == [0, 2, 5]
    assert (
        turns.phones.tolist()
        == [[PHONES.index("w")] * len(PHONE_PARTS)] * 2 + [[PHONES.index("t")] * len(PHONE_PARTS)] * 3
    )
    exact = [quantizer.encode(quantizer.latents(frames_of(each))) for _, _, each in said]
    np.testing.assert_array_equal(turns.codes, np.concatenate(exact))


def utterance(num_frames: int, phone: str) -> Utterance:
    entries = num_frames * PARTS
    return Utterance(
        pcm=np.zeros(0, np.float32),
        pitch_hz=np.full(entries, 120, np.float32),
        cepstra=np.full((entries, NUM_CEPSTRA), 0.1, np.float32),
        strengths=np.full((entries, NUM_BANDS), 0.5, np.float32),
        phones=(Phone(phone, entries * 0.005),),
        words=(Word((f"{phone}0",), "!" if phone == "t" else "."),),
    )
