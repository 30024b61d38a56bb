"""A stream that continues another one from a checkpoint, in another slot beside other streams, has the same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csm_bundle.errors import InvalidRequestError
from csm_codec.codec import Codec
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.stream import Audio, Checkpoint, Complete, DecodeOptions, Output
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_codec.watermark.stream.progress import START, ClipProgress, MarkPoint

KEY = WatermarkKey("key", b"abcde")
FRAMES = 36  # the tiny Mimi looks back 20 steps, ten frames, in each layer
LATER = ClipProgress(position=12_345, hops=96.4453125, square_sum=17.3, audible_frames=90)


@pytest.fixture(params=[1, 2], ids=["alone", "lane"])
def codec(request: pytest.FixtureRequest, mimi_folder: Path, silentcipher_folder: Path) -> Codec:
    return _new_codec(mimi_folder, silentcipher_folder, request.param)


def _new_codec(mimi_folder: Path, silentcipher_folder: Path, embedder_width: int) -> Codec:
    """A codec with two lanes of two rows. With an embedder of width 2 it works as on a GPU."""
    form = Form.BATCH if embedder_width == 2 else None
    decoder = MimiDecoder(load_mimi(mimi_folder), num_lanes=2, lane_width=2, form=form)
    embedder = Embedder(
        load_silentcipher(silentcipher_folder), sample_rate_hz=24000, num_slots=4, lane_width=embedder_width,
        first_samples=1920,
    )  # fmt: skip
    return Codec(decoder, embedder, Keyring(KEY, {"key": KEY}))


def _codes(seed: int, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 64, (frames, 4))


def _run(
    codec: Codec, codes: np.ndarray, before: ClipProgress = START, checkpoint: Checkpoint | None = None
) -> tuple[np.ndarray, list[Checkpoint], Complete]:
    point = checkpoint.point if checkpoint else None
    stream = codec.open(DecodeOptions("", before if checkpoint is None else START, point, checkpoint_frames=4))
    if checkpoint is not None:
        assert stream.start == checkpoint.start
    codec.push(stream, codes[stream.start.first_frame :])
    codec.finish(stream)
    outputs: list[Output] = []
    while not stream.ended:
        outputs += [output for output in codec.step() if output.stream is stream]
    audio = [output for output in outputs if isinstance(output, Audio)]
    (complete,) = [output for output in outputs if isinstance(output, Complete)]
    assert sum(output.num_new_frames for output in audio) == len(codes) - stream.start.first_frame
    checkpoints = [output.checkpoint for output in audio if output.checkpoint is not None]
    return np.concatenate([output.pcm for output in audio]), checkpoints, complete


@pytest.mark.parametrize("before", [pytest.param(START, marks=pytest.mark.slow), LATER], ids=["begins", "continues"])
def test_samples_are_the_same_bit_for_bit(codec: Codec, before: ClipProgress) -> None:
    codes = _codes(0)
    whole, checkpoints, end = _run(codec, codes, before)
    assert len(whole) == FRAMES * 1920 and len(checkpoints) >= FRAMES // 4 - 2
    noise = codec.open()  # has the slot that the whole run had, and leaves keys of its own in the others
    codec.push(noise, _codes(1, 30))
    for checkpoint in (checkpoints[0], checkpoints[-1]):
        rest, later, complete = _run(codec, codes, before, checkpoint)
        assert np.array_equal(rest, whole[checkpoint.start.first_sample :])
        assert complete.progress == end.progress and complete.coverage == end.coverage
        assert complete.stream.num_frames == FRAMES and complete.stream.num_samples == len(whole)
        assert later == [c for c in checkpoints if c.point.num_samples >= checkpoint.point.num_samples]


@pytest.mark.parametrize("first", [1, 2], ids=["from a CPU", "from a GPU"])
def test_a_codec_of_the_other_kind_continues_within_rounding(
    mimi_folder: Path, silentcipher_folder: Path, first: int
) -> None:
    codes = _codes(0)
    whole, checkpoints, _ = _run(_new_codec(mimi_folder, silentcipher_folder, first), codes)
    rest, _, _ = _run(_new_codec(mimi_folder, silentcipher_folder, 3 - first), codes, START, checkpoints[-1])
    expected = whole[checkpoints[-1].start.first_sample :]
    assert len(rest) == len(expected) and np.abs(rest - expected).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("codec", [1], ids=["alone"], indirect=True)
def test_replay_is_bounded_by_the_networks_receptive_field(codec: Codec) -> None:
    """Wherever in the stream."""
    _, checkpoints, _ = _run(codec, _codes(0, 2 * FRAMES))
    starts = [checkpoint.start for checkpoint in checkpoints]
    replayed = [start.first_marked - start.first_frame for start in starts]
    most = codec._decoder.latent_frames + codec._decoder.audio_frames
    assert max(replayed) == replayed[-1] == most < FRAMES
    assert all(start.first_sample < 1920 * (start.first_marked + 3) for start in starts)


def test_one_frame_less_of_replay_changes_the_samples(codec: Codec) -> None:
    """The bound is tight: with two steps less the samples differ."""
    codes = _codes(0)
    whole, checkpoints, _ = _run(codec, codes)
    checkpoint = checkpoints[-1]
    frames = codec._decoder.latent_frames
    type(codec._decoder).latent_frames = property(lambda self: frames // 2)  # type: ignore[method-assign,assignment]
    try:
        stream = codec.open(DecodeOptions(point=checkpoint.point))
        codec.push(stream, codes[stream.start.first_frame :])
        codec.finish(stream)
        rest = []
        while not stream.ended:
            rest += [o.pcm for o in codec.step() if isinstance(o, Audio)]
    finally:
        type(codec._decoder).latent_frames = property(lambda self: self._reach[0])  # type: ignore[method-assign,assignment]
    assert not np.array_equal(np.concatenate(rest), whole[checkpoint.start.first_sample :])


def test_a_checkpoint_within_a_frame_is_refused_and_takes_no_slot(codec: Codec) -> None:
    with pytest.raises(InvalidRequestError, match="960 samples end within a frame"):
        codec.open(DecodeOptions(point=MarkPoint(960, 0.0, 0.0, 0.0, 0, START)))
    assert codec.num_streams == 0
    for _ in range(codec.num_slots):
        codec.open()


def test_a_codec_fault_is_not_reported_as_a_wrong_checkpoint_and_takes_no_slot(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(codec._embedder, "join", broken)
    for _ in range(codec.num_slots + 1):
        with pytest.raises(ValueError, match="a fault"):
            codec.open()
