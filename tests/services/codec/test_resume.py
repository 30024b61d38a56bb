"""Streams that continue the clip of another one: one watermark, at one phase and level, reported as a whole."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2

from csm_codec.watermark.stream.progress import ClipProgress
from services.codec import resume
from services.codec.load import _resume_digest
from services.codec.settings import CodecSettings
from services.common.rpc.status import StatusError
from tests.support.codec_stage import config_message, decode, random_codes, refusal, running_codec, stream_of

FULL, PARTIAL = codec_pb2.WATERMARK_COVERAGE_FULL, codec_pb2.WATERMARK_COVERAGE_PARTIAL


async def begun(stub: Any, frames: int = 3) -> bytes:
    """Decodes that many frames. Returns what the stream reports of its clip."""
    _, complete = await decode(stub, stream_of(random_codes(frames), [frames]))
    return complete.resume


async def test_a_resumed_clip_has_the_same_audio_and_not_that_of_a_new_clip(stub: Any) -> None:
    state = await begun(stub)
    codes = random_codes(4, seed=1)
    first, second = [await decode(stub, stream_of(codes, sizes, resume=state)) for sizes in ([4], [1, 3])]
    assert first == second or (first[0], first[1].resume) == (second[0], second[1].resume)
    anew, complete = await decode(stub, stream_of(codes, [4]))
    assert anew != first[0] and complete.resume != first[1].resume
    assert first[1].sample_count == 4 * 1920


async def test_coverage_is_that_of_the_clip(stub: Any) -> None:
    """A frame of the tiny Mimi is 7.5 symbols of 256 samples; a message has 21."""
    state, coverages = b"", []
    for _ in range(4):
        _, complete = await decode(stub, stream_of(random_codes(1), [1], resume=state, clip_continues=True))
        state = complete.resume
        coverages.append(complete.watermark.coverage)
    assert coverages == [PARTIAL, PARTIAL, FULL, FULL]
    _, complete = await decode(stub, [config_message(resume=state)])
    assert (complete.watermark.coverage, complete.sample_count) == (FULL, 0)


async def test_a_full_mark_is_required_of_the_clip_that_ends(settings: CodecSettings) -> None:
    async with running_codec(settings, require_full_watermark=True) as (_, stub):
        short = stream_of(random_codes(1), [1], clip_continues=True)
        _, complete = await decode(stub, short)
        status = await refusal(decode(stub, [config_message(resume=complete.resume)]))
        assert (status.code, status.reason) == (grpc.StatusCode.INTERNAL, "WATERMARK_FAILED")
        _, complete = await decode(stub, stream_of(random_codes(4), [4], resume=complete.resume))
        assert complete.watermark.coverage == FULL


async def test_a_clip_of_another_speed_resumes_after_the_sent_samples(stub: Any) -> None:
    """The position in the message follows the stretched audio, separately for each stream."""
    positions = []
    for speed in (1.0, 1.5, 0.5):
        state = b""
        for seed in (1, 2):
            samples, complete = await decode(stub, stream_of(random_codes(3, seed), [3], resume=state, speed=speed))
            assert len(samples) / 4 == complete.sample_count == math.ceil(3 * 1920 / speed)
            again, _ = await decode(stub, stream_of(random_codes(3, seed), [1, 2], resume=state, speed=speed))
            assert samples == again
            state = complete.resume
        positions.append(struct.unpack_from("<q", state, 1)[0])
    lead = positions[0] - 2 * 3 * 1920
    assert positions[1:] == [lead + 2 * 3 * 1920 * 2 // 3, lead + 2 * 3 * 1920 * 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state[:-1], "bytes"),
        (lambda state: state + b"x", "bytes"),
        (lambda state: bytes(1025), "at most 1024"),
        (lambda state: b"\x02" + state[1:], "version 2"),
        (lambda state: b"\x01", "bytes"),
    ],
)
async def test_bytes_that_are_no_state_are_refused(stub: Any, change: Callable[[bytes], bytes], words: str) -> None:
    status = await refusal(decode(stub, [config_message(resume=change(await begun(stub)))]))
    assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_INVALID")
    assert [violation.field for violation in status.field_violations] == ["config.resume"]
    assert words in status.message


async def test_the_state_of_another_key_is_refused(stub: Any) -> None:
    status = await refusal(decode(stub, [config_message(resume=await begun(stub), watermark_key_id="old")]))
    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "'old'" in status.message


def test_the_state_of_other_weights_is_refused() -> None:
    state = resume.to_bytes(resume.from_bytes(b"", "a", "key"), "a", "key")
    resume.from_bytes(state, "a", "key")
    with pytest.raises(Exception, match="codec of another bundle"):
        resume.from_bytes(state, "b", "key")


def test_a_state_belongs_to_every_file_that_the_mark_depends_on(tmp_path: Path) -> None:
    mimi: Any = SimpleNamespace(identity=SimpleNamespace(weights_digest="decoder"))
    names = ["hparams.yaml", "enc_c.ckpt", "dec_c.ckpt"]
    for name in names:
        (tmp_path / name).write_bytes(b"one")
    digests = {_resume_digest(mimi, tmp_path, 30.0), _resume_digest(mimi, tmp_path, 36.0)}
    for name in names:
        (tmp_path / name).write_bytes(b"another")
        digests.add(_resume_digest(mimi, tmp_path, 30.0))
    assert len(digests) == 5


@pytest.mark.parametrize(
    "progress",
    [
        ClipProgress(position=-1),
        ClipProgress(position=2**48),
        ClipProgress(hops=math.nan),
        ClipProgress(square_sum=math.inf),
        ClipProgress(audible_frames=-1),
    ],
)
def test_impossible_counts_are_refused_despite_a_right_digest(progress: ClipProgress) -> None:
    state = resume.to_bytes(progress, "weights", "key")
    with pytest.raises(StatusError, match="no clip has") as refused:
        resume.from_bytes(state, "weights", "key")
    assert refused.value.reason == "RESUME_INVALID"
