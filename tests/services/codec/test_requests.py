"""Wrong requests are refused with an error that names the wrong field."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import numpy as np
import pytest
from csm.codec.v1 import codec_pb2
from csm.rvq.v1 import rvq_pb2

from services.codec import servicer
from services.codec.stage import CodecStage
from tests.support.codec_stage import (
    F32,
    config_message,
    decode,
    frames_message,
    random_codes,
    refusal,
    stream_of,
)
from tests.support.waits import eventually


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "config"),
        ([frames_message(random_codes(1))], "config"),
        ([config_message(sample_format=0)], "sample_format"),
        ([config_message(sample_rate_hertz=4000)], "config.sample_rate_hertz"),
        *(([config_message(speed=speed)], "config.speed") for speed in (0.24, 4.1, -1.0, math.nan, math.inf)),
        ([config_message(), config_message()], "request"),
        ([config_message(), frames_message(random_codes(2), 1)], "frames"),
        ([config_message(), frames_message(random_codes(2)), frames_message(random_codes(2), 1)], "frames"),
        ([config_message(), frames_message(random_codes(2)[:, :3])], "frames"),
        ([config_message(), frames_message(np.full((1, 4), 64))], "frames.codes"),
        ([config_message(), codec_pb2.StreamDecodeRequest(frames={"frame_count": 1, "codebook_count": 4})], "frames"),
        ([config_message(), codec_pb2.StreamDecodeRequest(frames={"codebook_count": 4})], "frames"),
    ],
)
async def test_wrong_requests_name_the_field_and_free_the_slot(
    stub: Any, stage: CodecStage, requests: list[codec_pb2.StreamDecodeRequest], field: str
) -> None:
    status = await refusal(decode(stub, requests))
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in status.field_violations] == [field]
    await eventually(lambda: stage.async_codec.num_streams == 0)


async def test_a_call_without_a_config_is_ended(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "CONFIG_SECONDS", 0.1)
    status = await refusal(asyncio.wait_for(stub.StreamDecode().read(), 60))
    assert (status.code, status.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "CONFIG_STALLED")


async def test_the_limits_of_speed_and_rate_are_themselves_allowed(stub: Any) -> None:
    for config in (config_message(speed=0.25), config_message(speed=4.0)):
        await decode(stub, [config])
    for config in (config_message(sample_rate_hertz=8000), config_message(sample_rate_hertz=48_000)):
        await decode(stub, [config])


async def test_codes_of_another_codec_are_refused_naming_both(stub: Any) -> None:
    info = await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    await decode(stub, stream_of(random_codes(1), [1], codec=info.codec))
    theirs = rvq_pb2.CodecIdentity(name="mimi", weights_digest="sha256:feedbeef", codebook_count=4)
    status = await refusal(decode(stub, [config_message(codec=theirs)]))
    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "feedbeef" in status.message and info.codec.weights_digest[:19] in status.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"samples": b""}, "samples"),
        ({"samples": b"123"}, "samples"),
        ({"samples": bytes(12), "sample_format": 0}, "sample_format"),
        ({"samples": bytes(12), "sample_rate_hertz": 7}, "sample_rate_hertz"),
        ({"samples": bytes(4 * 24000 * 6)}, "samples"),
        ({"samples": np.full(9, np.inf, "<f4").tobytes()}, "samples"),
    ],
)
async def test_wrong_recordings_name_the_field(stub: Any, fields: dict[str, Any], field: str) -> None:
    fields = {"sample_format": F32, "sample_rate_hertz": 24000, **fields}
    for call in (
        stub.Encode(codec_pb2.EncodeRequest(**fields)),
        stub.DetectWatermark(codec_pb2.DetectWatermarkRequest(**fields)),
    ):
        status = await refusal(call)
        assert status.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in status.field_violations] == [field]
