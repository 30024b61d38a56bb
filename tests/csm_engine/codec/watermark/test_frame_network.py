"""Frames in any company, against frames in lock step, and without their future."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_engine.codec.watermark.frame_network import Frame, FrameNetwork
from csm_engine.codec.watermark.framing import UNKNOWN
from csm_engine.codec.watermark.network import EmbedNetwork, Rows
from csm_engine.codec.watermark.payload import frame_symbols
from csm_engine.codec.watermark.silentcipher import SilentCipher

SYMBOLS = [frame_symbols(b"first"), frame_symbols(b"other")]
LAG = 6


@pytest.fixture
def carriers(silentcipher: SilentCipher) -> torch.Tensor:
    """(rows, frames, bins)"""
    bins = FrameNetwork(silentcipher).bins
    return torch.rand(2, 30, bins, generator=torch.Generator().manual_seed(0))


def _run(network: FrameNetwork, frames: list[Frame], carriers: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """One step. By row and frame of the message."""
    inputs = torch.stack([carriers[frame.row, frame.index % carriers.shape[1]] for frame in frames])
    messages = network.step(frames, inputs)
    pairs = zip(frames, messages, strict=True)
    return {(frame.row, frame.index - LAG): message for frame, message in pairs if message is not None}


@torch.inference_mode()
def test_company_changes_nothing(silentcipher: SilentCipher, carriers: torch.Tensor) -> None:
    """Two clips of different length, one frame at a time, against random handfuls of both; bit for bit."""
    ends = (13, 20)
    alone: dict[tuple[int, int], torch.Tensor] = {}
    for row, end in enumerate(ends):
        network = FrameNetwork(silentcipher)
        for index in range(end + LAG):
            alone |= _run(network, [Frame(row, index, end, SYMBOLS[row])], carriers)
    assert sorted(alone) == [(row, index) for row, end in enumerate(ends) for index in range(end)]

    random, network = np.random.default_rng(1), FrameNetwork(silentcipher)
    waiting = [[Frame(row, index, end, SYMBOLS[row]) for index in range(end + LAG)] for row, end in enumerate(ends)]
    together: dict[tuple[int, int], torch.Tensor] = {}
    while any(waiting):
        handful = []
        for _ in range(random.integers(1, 8)):
            if row := waiting[random.integers(2)]:
                handful.append(row.pop(0))
        together |= _run(network, handful, carriers) if handful else {}
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[key], alone[key]) for key in alone)


@torch.inference_mode()
def test_the_networks_are_those_of_the_lanes(silentcipher: SilentCipher, carriers: torch.Tensor) -> None:
    end = 12
    network, lane = FrameNetwork(silentcipher), EmbedNetwork(silentcipher, 1)
    found = _run(network, [Frame(0, index, end, SYMBOLS[0]) for index in range(end + LAG)], carriers)
    for index in range(end + LAG):
        symbols = [SYMBOLS[0][(index - lane.encoder_lag + at) % 21] for at in range(lane.encoder_lag + 1)]
        rows = Rows(torch.tensor([index]), torch.tensor([end]), True, None, None)
        expected = lane.step(carriers[0, index][None], torch.tensor([symbols]), rows)[0]
        if index >= LAG:
            assert (found[0, index - LAG] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("last", [0, 2, 13])
@torch.inference_mode()
def test_without_future_every_frame_is_marked_as_if_the_clip_ended(
    silentcipher: SilentCipher, carriers: torch.Tensor, last: int
) -> None:
    early, ended = FrameNetwork(silentcipher), FrameNetwork(silentcipher)
    _run(early, [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(last + 1)], carriers)
    expected = _run(ended, [Frame(0, index, last + 1, SYMBOLS[0]) for index in range(last + 1 + LAG)], carriers)
    for ahead in range(max(1, LAG - last), LAG + 1):  # frames before 0: none
        found = early.without_future(Frame(0, last, UNKNOWN, SYMBOLS[0]), ahead)
        assert torch.equal(found, expected[0, last - LAG + ahead])

    other = FrameNetwork(silentcipher)  # looking changed nothing
    _run(other, [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(last + 1)], carriers)
    more = [Frame(0, last + 1 + index, UNKNOWN, SYMBOLS[0]) for index in range(LAG)]
    seen, unseen = _run(early, more, carriers), _run(other, more, carriers)
    assert seen and all(torch.equal(seen[key], unseen[key]) for key in unseen)


@torch.inference_mode()
def test_a_row_that_was_forgotten_begins_anew(silentcipher: SilentCipher, carriers: torch.Tensor) -> None:
    network, fresh = FrameNetwork(silentcipher), FrameNetwork(silentcipher)
    frames = [Frame(0, index, UNKNOWN, SYMBOLS[0]) for index in range(10)]
    _run(network, frames, carriers * float("nan"))
    network.forget(0)
    again, expected = _run(network, frames, carriers), _run(fresh, frames, carriers)
    assert expected and all(torch.equal(again[key], expected[key]) for key in expected)
