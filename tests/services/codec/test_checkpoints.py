"""Streams that go on from a checkpoint of another call have the same samples."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import InvalidRequestError
from csm_codec.codes import CheckedCodes
from csm_codec.stream import StreamStart
from services.codec import resume
from services.codec.servicer import CodecServicer
from services.codec.settings import CodecSettings
from tests.support.codec_stage import S16, config_message, frames_message, random_codes, refusal, running_codec
from tests.support.tiny.mimi import write_tiny_mimi
from tests.support.waits import read_event

FRAMES = 24
Code = grpc.StatusCode


async def run(
    stub: Any, codes: CheckedCodes, **config: Any
) -> tuple[bytes, list[codec_pb2.StreamDecodeCheckpoint], codec_pb2.StreamDecodeComplete]:
    """Decodes a stream from the frame that it asks for. Returns samples, checkpoints and the closing message."""
    call = stub.StreamDecode()
    await call.write(config_message(sample_format=S16, checkpoint_frame_count=2, **config))
    started = (await read_event(call)).started
    for index in range(started.first_frame_index, len(codes)):
        await call.write(frames_message(codes[index : index + 1], index))
    await call.done_writing()
    samples, position = b"", started.sample_offset
    checkpoints: list[codec_pb2.StreamDecodeCheckpoint] = []
    while True:
        response = await call.read()
        if response.HasField("complete"):
            assert response.complete.sample_count == position
            return samples, checkpoints, response.complete
        if response.HasField("audio"):
            assert response.audio.sample_offset == position
            position += response.audio.sample_count
            samples += response.audio.samples
            if response.audio.HasField("checkpoint"):
                checkpoints.append(response.audio.checkpoint)


async def test_stream_is_continued_bit_for_bit(stub: Any) -> None:
    codes = random_codes(FRAMES)
    before = (await run(stub, random_codes(3)))[2].resume
    whole, checkpoints, complete = await run(stub, codes, resume=before)
    assert complete.frame_count == FRAMES and len(whole) == 2 * 1920 * FRAMES
    last = checkpoints[-1]
    assert len(last.state) <= resume.MOST_BYTES and last.first_frame_index < FRAMES
    assert 1920 * (FRAMES - 8) < last.sample_offset < 1920 * FRAMES
    for checkpoint, rate_hz in ((checkpoints[0], 0), (last, 24_000)):  # both are the codec's own
        rest, _, end = await run(stub, codes, checkpoint=checkpoint.state, sample_rate_hertz=rate_hz)
        assert rest == whole[2 * checkpoint.sample_offset :]
        assert (end.frame_count, end.sample_count, end.resume) == (FRAMES, FRAMES * 1920, complete.resume)
        assert end.watermark == complete.watermark


async def test_a_checkpoint_of_another_codec_is_refused(stub: Any) -> None:
    _, checkpoints, _ = await run(stub, random_codes(12))
    state = checkpoints[0].state
    status = await refusal(run(stub, random_codes(12), checkpoint=state[:-1]))
    assert (status.code, status.reason) == (Code.INVALID_ARGUMENT, "RESUME_INVALID")
    assert status.field_violations[0].field == "config.checkpoint" and "bytes" in status.message
    changed = bytes([state[0], state[1] ^ 1]) + state[2:]
    status = await refusal(run(stub, random_codes(12), checkpoint=changed))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert status.message.startswith("config.checkpoint was made by a codec of another bundle")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sample_rate_hertz": 16_000}, "config.checkpoint"),
        ({"speed": 2.0}, "config.checkpoint"),
        ({"checkpoint_frame_count": -1}, "config.checkpoint_frame_count"),
    ],
)
async def test_requests_that_do_not_fit_their_checkpoint_are_refused(
    stub: Any, fields: dict[str, Any], field: str
) -> None:
    _, checkpoints, _ = await run(stub, random_codes(12))
    call = stub.StreamDecode(iter([config_message(checkpoint=checkpoints[0].state, **fields)]))
    status = await refusal(read_event(call))
    assert status.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in status.field_violations] == [field]


async def test_frames_that_end_before_the_checkpoint_are_refused(stub: Any) -> None:
    """Otherwise the stream would be reported with the length and the watermark of the earlier one."""
    codes = random_codes(FRAMES)
    _, checkpoints, _ = await run(stub, codes)
    last = checkpoints[-1]
    least = -(-last.sample_offset // 1920)
    for num_frames in (last.first_frame_index, last.first_frame_index + 1, least - 1):
        status = await refusal(run(stub, codes[:num_frames], checkpoint=last.state))
        assert status.code is Code.INVALID_ARGUMENT
        assert [violation.field for violation in status.field_violations] == ["frames"]
    rest, _, end = await run(stub, codes[:least], checkpoint=last.state)
    assert end.sample_count == 1920 * least and len(rest) == 2 * (1920 * least - last.sample_offset)


def test_frames_that_end_just_at_the_checkpoint_are_enough() -> None:
    """All samples were sent before; only the end of the stream is missing."""
    servicer: Any = SimpleNamespace(_identity=SimpleNamespace(frame_sample_count=1920))
    handle: Any = SimpleNamespace(stream=SimpleNamespace(start=StreamStart(first_sample=2 * 1920)))
    CodecServicer._check_end(servicer, 2, handle)
    with pytest.raises(InvalidRequestError, match="at least 3840 are needed"):
        CodecServicer._check_end(servicer, 1, handle)


@pytest.mark.parametrize("config", [{"sample_rate_hertz": 16_000}, {"speed": 0.5}, {"speed": 2.0}], ids=str)
async def test_no_checkpoints_at_another_rate_or_speed(stub: Any, config: dict[str, Any]) -> None:
    _, checkpoints, _ = await run(stub, random_codes(12), **config)
    assert not checkpoints


async def test_a_checkpoint_of_a_codec_with_another_mark_is_refused_with_the_reason(settings: CodecSettings) -> None:
    async with running_codec(settings, watermark_sdr_db=30.0) as (_, one):
        state = (await run(one, random_codes(12)))[1][0].state
    async with running_codec(settings, watermark_sdr_db=36.0) as (_, other):
        status = await refusal(run(other, random_codes(12), checkpoint=state))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "config.checkpoint" in status.message and "mark network" in status.message


async def test_a_checkpoint_of_a_codec_with_another_decoder_is_refused(
    settings: CodecSettings, stub: Any, bundle: Path, tmp_path: Path
) -> None:
    """It would continue the audio with that of other weights."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    shutil.rmtree(folder / "mimi")
    identity = write_tiny_mimi(folder / "mimi", 1, num_codebooks=4, codebook_size=64, context=20, width=32)
    manifest = json.loads((folder / "bundle.json").read_text()) | {"codec": asdict(identity)}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    state = (await run(stub, random_codes(12)))[1][0].state
    async with running_codec(settings, bundle=str(folder)) as (_, other):
        status = await refusal(run(other, random_codes(12), checkpoint=state))
    assert (status.code, status.reason) == (Code.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "config.checkpoint" in status.message


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "bfloat16"},
        pytest.param(
            {"watermark_dtype": "bfloat16"}, marks=pytest.mark.slow
        ),  # whose kernels are compiled for it alone
        {"watermark_first_look_ahead": 1},
        {"watermark_most_look_ahead": 1},
    ],
    ids=str,
)
async def test_a_codec_of_other_types_or_look_ahead_continues_with_close_samples(
    settings: CodecSettings, stub: Any, change: dict[str, Any]
) -> None:
    """During a rollout that changes the networks such a stream cannot be told from others; a refusal would end it."""
    codes = random_codes(FRAMES // 2)
    whole, _, _ = await run(stub, codes)
    first = (await run(stub, codes[:4]))[1][0]  # where any look-ahead still grows
    async with running_codec(settings, **change) as (_, other):
        rest, _, _ = await run(other, codes, checkpoint=first.state)
    assert rest != whole[2 * first.sample_offset :]
    ours, expected = (np.frombuffer(data, np.int16).astype(float) for data in (rest, whole[2 * first.sample_offset :]))
    decibels = 10 * np.log10(np.mean((ours - expected) ** 2) / np.mean(expected**2))
    assert decibels < -30
