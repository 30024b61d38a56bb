"""Streaming decode against whole-clip decode, and rows against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import Mimi, load_mimi

FRAMES = 40  # four times what the ring of the fixture holds


def _codes(seed: int, frames: int = FRAMES) -> Tensor:
    return torch.randint(64, (frames, 4), generator=torch.Generator().manual_seed(seed))


def _whole(mimi: Mimi, codes: Tensor) -> Tensor:
    with torch.inference_mode():
        return mimi.model.decode(codes.T[None])[0, 0]


def _alone(mimi: Mimi, codes: Tensor, width: int = 3, row: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=width, dtype=dtype)
    return torch.cat([_step(decoder, {row: frame}, {row} if i == 0 else set())[row] for i, frame in enumerate(codes)])


def _step(decoder: MimiDecoder, frames: dict[int, Tensor], joining: set[int], lane: int = 0) -> Tensor:
    codes = torch.zeros(decoder.lane_width, 4, dtype=torch.long)
    exec_mask, reset_mask = (torch.zeros(decoder.lane_width, dtype=torch.bool) for _ in range(2))
    for row, frame in frames.items():
        codes[row] = frame
        exec_mask[row] = True
        reset_mask[row] = row in joining
    return decoder.frame_step(lane, codes, exec_mask, reset_mask)


def test_chunked_equals_whole_past_the_attention_span(mimi_folder: Path) -> None:
    """In double precision, so that differences are not rounding."""
    mimi = load_mimi(mimi_folder)
    mimi.model.double()
    codes = _codes(0)
    whole = _whole(mimi, codes)
    difference = (_alone(mimi, codes, dtype=torch.float64) - whole).abs().max() / whole.std()
    assert difference < 1e-6


def test_the_test_detects_too_small_a_ring(mimi: Mimi) -> None:
    """Validates the test above: with the package's own ring buffers the comparison fails."""
    codes = _codes(0)
    whole = _whole(mimi, codes)
    with torch.inference_mode(), mimi.model.streaming(1):
        streamed = torch.cat([mimi.model.decode(frame[None, :, None])[0, 0] for frame in codes])
    assert (streamed - whole).abs().max() / whole.std() > 1e-4


def test_bits_of_a_row_do_not_depend_on_its_neighbours(mimi: Mimi) -> None:
    alone = {seed: _alone(mimi, _codes(seed), row=seed) for seed in range(3)}
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=3)
    random = np.random.default_rng(0)
    heard: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    while any(len(heard[row]) < FRAMES for row in heard):  # each row joins, stalls and leaves when it likes
        active = [row for row in heard if len(heard[row]) < FRAMES and random.random() < 0.6]
        joining = {row for row in active if not heard[row]}
        pcm = _step(decoder, {row: _codes(row)[len(heard[row])] for row in active}, joining)
        for row in active:
            heard[row].append(pcm[row].clone())
    for row, chunks in heard.items():
        assert torch.equal(torch.cat(chunks), alone[row])


def test_reset_forgets_the_stream_before(mimi: Mimi) -> None:
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=2)
    for frame in _codes(7):
        _step(decoder, {0: frame, 1: frame}, set())
    codes = _codes(1)
    again = torch.cat([_step(decoder, {1: frame}, {1} if i == 0 else set())[1] for i, frame in enumerate(codes)])
    assert torch.equal(again, _alone(mimi, codes, width=2, row=1))


def test_lanes_do_not_share_state(mimi: Mimi) -> None:
    decoder = MimiDecoder(mimi, num_lanes=2, lane_width=1)
    heard: dict[int, list[Tensor]] = {0: [], 1: []}
    for index in range(FRAMES):
        for lane in heard:
            pcm = _step(decoder, {0: _codes(lane)[index]}, {0} if index == 0 else set(), lane)
            heard[lane].append(pcm[0].clone())
    for lane, chunks in heard.items():
        assert torch.equal(torch.cat(chunks), _alone(mimi, _codes(lane), width=1))


def test_encoding_beside_a_running_decoder_changes_neither(mimi: Mimi) -> None:
    pcm = _whole(mimi, _codes(3))[None, None]
    with torch.inference_mode():
        expected = mimi.model.encode(pcm)
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=1)
    codes, chunks = _codes(4), []
    for index, frame in enumerate(codes):
        chunks.append(_step(decoder, {0: frame}, {0} if index == 0 else set())[0].clone())
        if index % 10 == 0:
            with torch.inference_mode():
                assert torch.equal(mimi.model.encode(pcm), expected)
    assert torch.equal(torch.cat(chunks), _alone(mimi, codes, width=1))


def test_bfloat16_stays_close(mimi_folder: Path) -> None:
    codes = _codes(0)
    whole = _whole(load_mimi(mimi_folder), codes)
    decoder = MimiDecoder(load_mimi(mimi_folder), num_lanes=1, lane_width=1, dtype=torch.bfloat16)
    steps = [_step(decoder, {0: frame}, {0} if i == 0 else set())[0].clone() for i, frame in enumerate(codes)]
    noise = torch.cat(steps) - whole
    assert 20 * torch.log10(whole.std() / noise.std()) > 25  # dB


@pytest.mark.parametrize("form", [Form.FRAMES, Form.BATCH])
def test_a_stream_sounds_the_same_after_ten_days(form: Form, mimi: Mimi) -> None:
    """Attention depends on the distance of two steps, not on their numbers. Rounded to float32, their angles drift."""
    ten_days, codes, made = 10 * 24 * 3600 * 25 // 2, _codes(0), []
    for first in (0, ten_days):
        decoder = MimiDecoder(mimi, num_lanes=1, lane_width=1, form=form)
        decoder.begin(0, 0, first)
        made.append(torch.cat([_step(decoder, {0: frame}, set())[0].clone() for frame in codes]))
    early, late = made
    assert 20 * torch.log10(early.std() / (late - early).std()) > 100  # dB
