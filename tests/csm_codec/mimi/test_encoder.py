"""Audio to codes: rates, lengths, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_bundle.errors import CodecError, InvalidRequestError
from csm_codec.codes import checked_codes
from csm_codec.mimi.encoder import encode
from csm_codec.mimi.loader import Mimi
from csm_codec.resample import StreamResampler, resample


def _tone(rate_hz: int, seconds: float) -> np.ndarray:
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def test_the_last_frame_is_padded(mimi: Mimi) -> None:
    assert encode(mimi, _tone(24000, 0.5), 24000).shape == (7, 4)  # 6.25 frames
    assert encode(mimi, _tone(24000, 0.08), 24000).shape == (1, 4)
    assert encode(mimi, np.zeros(1, np.float32), 24000).shape == (1, 4)


def test_a_recording_that_is_over_before_the_codecs_first_sample_is_one_frame(mimi: Mimi) -> None:
    assert encode(mimi, np.full(3, 0.1, np.float32), 192_000).shape == (1, 4)


def test_codes_are_those_of_the_model(mimi: Mimi) -> None:
    pcm = _tone(24000, 0.8)
    with torch.inference_mode():
        expected = mimi.model.encode(torch.from_numpy(pcm)[None, None])[0].T
    assert np.array_equal(encode(mimi, pcm, 24000), expected)


def test_what_is_no_number_becomes_no_codes(mimi: Mimi, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = mimi.model._to_framerate

    def broken(x: torch.Tensor) -> torch.Tensor:
        return latents(x).index_fill(2, torch.tensor([3]), torch.nan)

    monkeypatch.setattr(mimi.model, "_to_framerate", broken)
    with pytest.raises(CodecError, match="computed what is no number"):
        encode(mimi, _tone(24000, 0.8), 24000)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
def test_other_rates_give_the_frames_of_their_duration(mimi: Mimi, rate_hz: int) -> None:
    assert len(encode(mimi, _tone(rate_hz, 1.0), rate_hz)) == 13


@pytest.mark.parametrize(
    ("pcm", "rate_hz", "field"),
    [
        (np.zeros(0, np.float32), 24000, "pcm"),
        (np.full(9, np.nan, np.float32), 24000, "pcm"),
        (np.full(9, -101, np.float32), 24000, "pcm"),
        (np.zeros((9, 2), np.float32), 24000, "pcm"),
        (np.zeros(9, np.float32), 7999, "sample_rate_hz"),
    ],
)
def test_samples_that_are_no_recording_are_refused(mimi: Mimi, pcm: np.ndarray, rate_hz: int, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        encode(mimi, pcm, rate_hz)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 3), np.int64), r"\(frames, 4\) is needed"),
        (np.zeros(4, np.int64), "have shape"),
        (np.zeros((1, 4)), "whole numbers"),
        (np.array([[0, 0, 64, 0]]), "hold 64; allowed are 0..63"),
        (np.array([[0, -1, 0, 0]]), "hold -1"),
    ],
)
def test_wrong_codes_are_refused(mimi: Mimi, codes: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        checked_codes(codes, mimi.identity)


@pytest.mark.parametrize("wanted_hz", [8000, 16000, 44100])
def test_resampling_in_pieces_equals_the_whole(wanted_hz: int) -> None:
    pcm = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    stream = StreamResampler(24000, wanted_hz)
    pieces = [stream.push(pcm[start : start + 700], last=start + 700 >= 9000) for start in range(0, 9000, 700)]
    assert np.array_equal(np.concatenate(pieces), resample(pcm, 24000, wanted_hz))
