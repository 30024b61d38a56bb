"""Mimi in batches of fixed shape, on a CPU, against the other forms; and that a CUDA graph could hold a frame."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.kernel_proof.capturable import Capturable
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.batch.network import TAKES_PART, BatchNetwork
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import Mimi, load_mimi

FRAMES = 24  # twice what the ring of the fixture holds
WIDTH = 20  # buckets of 8, 16 and 20 rows


def _decoder(
    mimi: Mimi, dtype: torch.dtype = torch.float32, width: int = WIDTH, *, constant: bool = False
) -> MimiDecoder:
    return MimiDecoder(mimi, num_lanes=1, lane_width=width, dtype=dtype, form=Form.BATCH, constant_shape=constant)


def _codes(seed: int = 0, frames: int = FRAMES) -> Tensor:
    return torch.randint(64, (frames, 4), generator=torch.Generator().manual_seed(seed))


def _stream(decoder: MimiDecoder, codes: Tensor, row: int = 0, beside: tuple[int, ...] = ()) -> Tensor:
    """Decodes a stream in one row, which pauses every third step while other rows go on."""
    pcm = []
    for index, frame in enumerate(codes):
        mine, others = (torch.zeros(decoder.lane_width, dtype=torch.bool) for _ in range(2))
        mine[row], others[list(beside)] = True, True
        first = mine & torch.tensor(index == 0)
        frames = torch.randint(64, (decoder.lane_width, 4), generator=torch.Generator().manual_seed(index))
        frames[row] = frame
        pcm.append(decoder.frame_step(0, frames, mine | others, first)[row].clone())
        if index % 3 == 2 and beside:
            decoder.frame_step(0, frames, others, first & others)
    return torch.cat(pcm)


@pytest.mark.parametrize(("dtype", "least_db"), [(torch.float64, 120), (torch.float32, 90), (torch.bfloat16, 25)])
def test_audio_is_that_of_the_modules(mimi_folder: Path, dtype: torch.dtype, least_db: float) -> None:
    mimi, exact = load_mimi(mimi_folder), load_mimi(mimi_folder)
    exact.model.double()
    if dtype is torch.float64:
        mimi.model.double()
    modules = MimiDecoder(exact, num_lanes=1, lane_width=1, dtype=torch.float64, form=Form.MODULES)
    expected = _stream(modules, _codes())
    noise = _stream(_decoder(mimi, dtype), _codes(), 2, (0, 5)) - expected
    assert 20 * torch.log10(expected.std() / noise.std()) > least_db


def test_row_and_neighbours_change_no_bit_within_a_bucket(mimi: Mimi) -> None:
    alone = _stream(_decoder(mimi), _codes(), row=3)
    beside = _stream(_decoder(mimi), _codes(), row=6, beside=(0, 1, 7))
    assert torch.equal(alone, beside)


def test_constant_shape_gives_the_same_bits_however_many_rows_take_part(mimi: Mimi) -> None:
    alone = _stream(_decoder(mimi, constant=True), _codes(), row=0)
    assert torch.equal(_stream(_decoder(mimi, constant=True), _codes(), row=19, beside=tuple(range(19))), alone)


def test_buckets_differ_by_rounding_alone(mimi: Mimi) -> None:
    small, large = _stream(_decoder(mimi), _codes(), 0), _stream(_decoder(mimi), _codes(), 0, (19,))
    assert (small - large).abs().max() < 1e-5 * small.std()


@pytest.mark.parametrize("constant", [False, True])
def test_a_stream_started_in_the_middle_is_the_same_after_the_receptive_field(mimi: Mimi, constant: bool) -> None:
    codes = _codes(1, 40)
    whole = _stream(_decoder(mimi, constant=constant), codes)
    decoder = _decoder(mimi, constant=constant)
    _stream(decoder, _codes(2), row=4)  # leaves keys of its own
    start = 40 - 1 - decoder.latent_frames - decoder.audio_frames
    decoder.begin(0, 4, start)
    mask, none = torch.zeros(WIDTH, dtype=torch.bool), torch.zeros(WIDTH, dtype=torch.bool)
    mask[4] = True
    for index in range(start, 40):
        frame = codes[index].expand(WIDTH, -1)
        if index < 39 - decoder.audio_frames:
            decoder.latent_step(0, frame, mask)
        else:
            last = decoder.frame_step(0, frame, mask, none)[4]
    assert torch.equal(last, whole[-1920:])


@torch.inference_mode()
def test_a_row_that_is_not_finite_changes_no_other_and_recovers_on_reset(mimi: Mimi) -> None:
    decoder = _decoder(mimi)
    assert isinstance(decoder._half, BatchLanes)
    expected = _stream(_decoder(mimi), _codes(), row=3)
    state = decoder._half._lanes[0].state
    state.rings[0][5], state.kept[5] = torch.nan, torch.nan
    assert torch.equal(_stream(decoder, _codes(), row=3, beside=(5,)), expected)
    decoder.forget(0, 5)
    assert torch.equal(_stream(decoder, _codes(), row=5, beside=(3,)), expected)
    state.rings[1].fill_(torch.nan)
    decoder.rebuild(0)
    assert torch.equal(_stream(decoder, _codes(), row=1), expected)


def test_lanes_do_not_share_state_and_weights_stay_as_they_were(mimi_folder: Path) -> None:
    mimi, other = load_mimi(mimi_folder), load_mimi(mimi_folder)
    lanes = BatchLanes(mimi, 2, 1, torch.bfloat16)
    every, none = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    first = [lanes.frame_step(lane, _codes()[:1], every, every) for lane in (0, 1)]
    assert torch.equal(*first)
    lanes.frame_step(0, _codes()[1:2], every, none)
    assert torch.equal(lanes.frame_step(1, _codes()[:1], every, every), first[0])
    for (name, mine), theirs in zip(mimi.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


@torch.inference_mode()
@pytest.mark.parametrize("audio", [True, False])
def test_a_frame_is_capturable_and_keeps_every_address(mimi: Mimi, audio: bool) -> None:
    network = BatchNetwork(mimi.model, torch.bfloat16)
    table, state, pcm = network.new_table(8), network.new_state(8), network.new_pcm(8)
    table[:, network.num_codebooks + TAKES_PART] = 1
    buffers = (state.latent, *state.rings, state.kept, state.last_kept, pcm)
    before = [buffer.data_ptr() for buffer in buffers]
    with Capturable("cpu"):
        network.step(table, state, pcm if audio else None)
    assert [buffer.data_ptr() for buffer in buffers] == before
    assert bool(pcm.any()) == bool(state.kept.any()) == audio and all(bool(ring.any()) for ring in state.rings)
