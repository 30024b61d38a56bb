"""Mimi's decoding half on a CPU against moshi's modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from csm_codec.mimi.cpu.frame_lanes import FrameLanes
from csm_codec.mimi.cpu.product import Product
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.mimi.module_lanes import ModuleLanes
from csm_codec.mimi.usual_build import is_usual

FRAMES = 24  # twice what the ring of the fixture holds


def _stream(decoder: MimiDecoder, codes: Tensor) -> Tensor:
    """Decodes a stream in the last row, which pauses between its frames while another row is computed."""
    width, row, pcm = decoder.lane_width, decoder.lane_width - 1, []
    for index, frame in enumerate(codes):
        mine, first = torch.zeros(width, dtype=torch.bool), torch.zeros(width, dtype=torch.bool)
        mine[row], first[row] = True, index == 0
        pcm.append(decoder.frame_step(0, frame.expand(width, -1), mine, first)[row].clone())
        decoder.frame_step(0, frame.expand(width, -1), ~mine, first & ~mine)
    return torch.cat(pcm)


def _codes() -> Tensor:
    return torch.randint(64, (FRAMES, 4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("dtype", "least_db"),
    [pytest.param(torch.float64, 120, marks=pytest.mark.slow), (torch.float32, 90), (torch.bfloat16, 25)],
)
def test_audio_is_that_of_the_modules(mimi_folder: Path, dtype: torch.dtype, least_db: float) -> None:
    mimi, exact = load_mimi(mimi_folder), load_mimi(mimi_folder)
    exact.model.double()
    if dtype is torch.float64:
        mimi.model.double()
    ours = MimiDecoder(mimi, num_lanes=1, lane_width=2, dtype=dtype)
    modules = MimiDecoder(exact, num_lanes=1, lane_width=2, dtype=torch.float64, form=Form.MODULES)
    assert isinstance(ours._half, FrameLanes) and isinstance(modules._half, ModuleLanes)
    expected = _stream(modules, _codes())
    noise = _stream(ours, _codes()) - expected
    assert 20 * torch.log10(expected.std() / noise.std()) > least_db


def test_weights_stay_as_they_were(mimi_folder: Path) -> None:
    mimi, other = load_mimi(mimi_folder), load_mimi(mimi_folder)
    MimiDecoder(mimi, num_lanes=1, lane_width=1, dtype=torch.bfloat16)
    for (name, mine), theirs in zip(mimi.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_network_of_another_build_is_left_to_the_modules(mimi_folder: Path) -> None:
    mimi = load_mimi(mimi_folder)
    assert is_usual(mimi.model)
    layers: Any = mimi.model.decoder.model
    layers[2] = nn.Identity()
    assert not is_usual(mimi.model)
    mimi = load_mimi(mimi_folder)
    mimi.model.decoder_transformer.transformer.layers[0].activation = torch.relu
    assert not is_usual(mimi.model)
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=1)
    assert isinstance(decoder._half, ModuleLanes)
    assert np.isfinite(_stream(MimiDecoder(mimi, num_lanes=1, lane_width=2), _codes()[:2]).numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_reach_the_samples(mimi_folder: Path, dtype: torch.dtype) -> None:
    """A clamped exponential would turn it into sound."""
    mimi = load_mimi(mimi_folder)
    with torch.no_grad():
        mimi.model.decoder.model[0].conv.conv.bias.fill_(torch.nan)
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=1, dtype=dtype)
    every = torch.ones(1, dtype=torch.bool)
    assert decoder.frame_step(0, _codes()[:1], every, every).isnan().all()


def _streams(decoder: MimiDecoder, rows: int) -> list[Tensor]:
    """Audio of streams in the lane's last rows, which begin one after the other, one frame apart."""
    width = decoder.lane_width
    pcm: list[list[Tensor]] = [[] for _ in range(rows)]
    codes = torch.randint(64, (rows, FRAMES, 4), generator=torch.Generator().manual_seed(0))
    for index in range(FRAMES + rows - 1):
        mine, first, frame = torch.zeros(width, dtype=torch.bool), torch.zeros(width, dtype=torch.bool), codes[:1, 0]
        frame = frame.repeat(width, 1)
        going = [stream for stream in range(rows) if 0 <= index - stream < FRAMES]
        for stream in going:
            row = width - rows + stream
            mine[row], first[row], frame[row] = True, index == stream, codes[stream, index - stream]
        audio = decoder.frame_step(0, frame, mine, first)
        for stream in going:
            pcm[stream].append(audio[width - rows + stream].clone())
    return [torch.cat(parts) for parts in pcm]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_depend_neither_on_the_width_of_a_lane_nor_on_its_streams(mimi_folder: Path, dtype: torch.dtype) -> None:
    mimi = load_mimi(mimi_folder)
    lanes = {width: MimiDecoder(mimi, num_lanes=1, lane_width=width, dtype=dtype) for width in (1, 2, 5, 8, 11)}
    whole = _streams(lanes[8], 8)
    for width, rows in ((1, 1), (2, 1), (2, 2), (5, 3), (8, 1), (11, 8)):
        for mine, expected in zip(_streams(lanes[width], rows), whole, strict=False):
            assert torch.equal(mine, expected), (width, rows)


class _InOneOrder(Product):
    """Adds in one order for any number of rows, which not every vendor's product does."""

    def _of(self, x: Tensor) -> Tensor:
        return sum((x[:, i, None] * self._weight[:, i] for i in range(self.num_inputs)), torch.zeros(()))


class _OtherBelow(_InOneOrder):
    """Adds in another order for fewer than twelve rows."""

    def _of(self, x: Tensor) -> Tensor:
        y = super()._of(x)
        return y if len(x) >= 12 else y + 1e-3


def test_a_product_is_filled_up_to_as_many_rows_as_leave_its_bits_alone() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    product = _OtherBelow(weight, None, 16, torch.float64, each=2)
    assert product.fewest_rows == 12 and _InOneOrder(weight, None, 16, torch.float64, each=2).fewest_rows == 2
    narrow = _OtherBelow(weight, None, 4, torch.float64, each=2)  # as in a lane of eight
    assert narrow.fewest_rows == 12
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2)).double()
    for one in (product, narrow):
        one.fill(x)
        assert np.allclose(one.multiply(4).reshape(4, 6), (x @ weight.double().T).numpy(), rtol=1e-12, atol=1e-12)
