"""The embedding network without look-ahead, compared with the network at the end of a clip."""

from __future__ import annotations

import pytest
import torch

from csm_codec.watermark.networks.embedding import EmbedNetwork, Rows
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.framing import UNKNOWN

WIDTH, LAG = 2, 6


def _step(network: EmbedNetwork, carriers: torch.Tensor, symbols: torch.Tensor, frame: int, end: int) -> torch.Tensor:
    """carriers: (frames, WIDTH, bins). symbols: (frames, WIDTH)."""
    carrier = carriers[frame] if frame < end else torch.full_like(carriers[0], 7.0)
    rows = Rows(torch.full((WIDTH,), frame), torch.full((WIDTH,), end), torch.ones(WIDTH, dtype=torch.bool))
    return network.step(carrier, _on_air(network, symbols, frame), rows)


def _on_air(network: EmbedNetwork, symbols: torch.Tensor, frame: int) -> torch.Tensor:
    oldest = frame - network.encoder_lag
    return torch.stack([symbols[at % len(symbols)] for at in range(oldest, frame + 1)], dim=1)


@pytest.mark.parametrize("last", [0, 2, 13])
def test_with_no_look_ahead_every_frame_is_marked_as_the_last_one(silentcipher: SilentCipher, last: int) -> None:
    random = torch.Generator().manual_seed(last)
    symbols = torch.randint(5, (21, WIDTH), generator=random)
    early, ended = EmbedNetwork(silentcipher, WIDTH), EmbedNetwork(silentcipher, WIDTH)
    carriers = torch.rand(last + 2, WIDTH, early.bins, generator=random)
    for frame in range(last + 1):
        _step(early, carriers, symbols, frame, UNKNOWN)
        _step(ended, carriers, symbols, frame, last + 1)
    on_air, rows = _on_air(early, symbols, last), torch.arange(WIDTH)
    found = [
        early.without_future(on_air, torch.full((WIDTH,), last), rows, torch.full((WIDTH,), ahead + 1))
        for ahead in range(LAG)
    ]
    expected = [_step(ended, carriers, symbols, last + ahead, last + 1) for ahead in range(1, LAG + 1)]
    for message, wanted in list(zip(found, expected, strict=True))[max(0, LAG - 1 - last) :]:  # frames before 0: none
        assert torch.equal(message, wanted)

    other = EmbedNetwork(silentcipher, WIDTH)  # looking changed nothing
    for frame in range(last + 1):
        _step(other, carriers, symbols, frame, UNKNOWN)
    assert torch.equal(
        _step(early, carriers, symbols, last + 1, UNKNOWN), _step(other, carriers, symbols, last + 1, UNKNOWN)
    )
