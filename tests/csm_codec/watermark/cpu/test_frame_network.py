"""Frames in any company, against frames in lock step, and without their future."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_codec.watermark.cpu.frame_network import Frame, FrameNetwork
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.embedding import EmbedNetwork, Rows
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.framing import UNKNOWN

SYMBOLS = [frame_symbols(b"first"), frame_symbols(b"other")]
LAG = 6


@pytest.fixture
def carriers(silentcipher: SilentCipher) -> np.ndarray:
    """(rows, frames, bins)"""
    shape = (2, 30, FrameNetwork(silentcipher).bins)
    return np.random.default_rng(0).random(shape, np.float32)


def _run(network: FrameNetwork, frames: list[Frame], carriers: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """By row and frame of the message."""
    messages = {}
    for frame in frames:
        message = network.step(frame, carriers[frame.row, frame.index % carriers.shape[1]])
        if message is not None:
            messages[frame.row, frame.index - LAG] = message
    return messages


@torch.inference_mode()
def test_a_row_does_not_depend_on_its_neighbours(silentcipher: SilentCipher, carriers: np.ndarray) -> None:
    """Two clips of different length, one after the other, against turns at random; bit for bit."""
    ends = (13, 20)
    clips = [[Frame(row, index, end, SYMBOLS[row]) for index in range(end + LAG)] for row, end in enumerate(ends)]
    alone: dict[tuple[int, int], np.ndarray] = {}
    for clip in clips:
        alone |= _run(FrameNetwork(silentcipher), clip, carriers)
    assert sorted(alone) == [(row, index) for row, end in enumerate(ends) for index in range(end)]

    random, network = np.random.default_rng(1), FrameNetwork(silentcipher)
    together: dict[tuple[int, int], np.ndarray] = {}
    while any(clips):
        if clip := clips[random.integers(2)]:
            together |= _run(network, [clip.pop(0)], carriers)
    assert together.keys() == alone.keys()
    assert all(np.array_equal(together[key], alone[key]) for key in alone)


@pytest.mark.parametrize("end", [1, 2, 5, 12, 13])
@torch.inference_mode()
def test_the_networks_are_those_of_the_lanes(silentcipher: SilentCipher, carriers: np.ndarray, end: int) -> None:
    network, lane = FrameNetwork(silentcipher), EmbedNetwork(silentcipher, 1)
    found = _run(network, [Frame(0, index, end, SYMBOLS[0]) for index in range(end + LAG)], carriers)
    for index in range(end + LAG):
        symbols = [SYMBOLS[0][(index - lane.encoder_lag + at) % 21] for at in range(lane.encoder_lag + 1)]
        rows = Rows(torch.tensor([index]), torch.tensor([end]), torch.ones(1, dtype=torch.bool))
        carrier = torch.from_numpy(carriers[0, index][None])
        expected = lane.step(carrier, torch.tensor([symbols]), rows)[0].numpy()
        if index >= LAG:
            assert np.abs(found[0, index - LAG] - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("last", [0, 2, 13])
@torch.inference_mode()
def test_with_no_look_ahead_every_frame_is_marked_as_the_last_one(
    silentcipher: SilentCipher, carriers: np.ndarray, last: int
) -> None:
    early, ended = FrameNetwork(silentcipher), FrameNetwork(silentcipher)
    _run(early, [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(last + 1)], carriers)
    expected = _run(ended, [Frame(0, index, last + 1, SYMBOLS[0]) for index in range(last + 1 + LAG)], carriers)
    for ahead in range(max(1, LAG - last), LAG + 1):  # frames before 0: none
        found = early.without_future(Frame(0, last, UNKNOWN, SYMBOLS[0]), ahead)
        wanted = expected[0, last - LAG + ahead]
        assert np.abs(found - wanted).max() < 1e-5 * wanted.max()

    other = FrameNetwork(silentcipher)  # looking changed nothing
    _run(other, [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(last + 1)], carriers)
    more = [Frame(0, last + 1 + index, UNKNOWN, SYMBOLS[0]) for index in range(LAG)]
    seen, unseen = _run(early, more, carriers), _run(other, more, carriers)
    assert seen and all(np.array_equal(seen[key], unseen[key]) for key in unseen)


@torch.inference_mode()
def test_the_first_frame_of_a_clip_clears_its_row(silentcipher: SilentCipher, carriers: np.ndarray) -> None:
    network, fresh = FrameNetwork(silentcipher), FrameNetwork(silentcipher)
    frames = [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(10)]
    _run(network, frames, carriers * np.float32("nan"))
    again, expected = _run(network, frames, carriers), _run(fresh, frames, carriers)
    assert expected and all(np.array_equal(again[key], expected[key]) for key in expected)
