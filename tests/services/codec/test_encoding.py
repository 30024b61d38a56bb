"""Recordings to codes, alone and beside streams."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from csm.codec.v1 import codec_pb2

from csm_codec.mimi.loader import load_mimi
from tests.support.codec_stage import F32, S16, decode, random_codes, recording_messages, refusal, stream_of


async def test_encoding_gives_the_models_codes(stub: Any, bundle: Path) -> None:
    pcm = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype("<f4")
    answer = await stub.Encode(
        codec_pb2.EncodeRequest(samples=pcm.tobytes(), sample_format=F32, sample_rate_hertz=24000)
    )
    with torch.inference_mode():
        expected = load_mimi(bundle / "mimi").model.encode(torch.from_numpy(pcm.copy())[None, None])[0].T
    codes = np.frombuffer(answer.codes.codes, "<u2").reshape(answer.codes.frame_count, 4)
    assert np.array_equal(codes, expected)
    assert answer.codec.weights_digest


async def test_levels_are_returned_when_they_are_asked_for(stub: Any) -> None:
    pcm = (0.1 * np.ones(24000)).astype("<f4")
    request = codec_pb2.EncodeRequest(samples=pcm.tobytes(), sample_format=F32, sample_rate_hertz=24000)
    assert not (await stub.Encode(request)).HasField("levels")
    request.measure = True
    levels = (await stub.Encode(request)).levels
    assert abs(levels.speech_level_db - -20) < 0.01
    assert (levels.silent_ratio, levels.clipped_ratio) == (0, 0)


async def test_numbers_of_sixteen_bits_as_floats_are_refused(stub: Any) -> None:
    """The networks would make codes from it that have nothing to do with the recording."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 24000).astype("<f4").tobytes()
    config: dict[str, Any] = {"sample_format": F32, "sample_rate_hertz": 24000}
    whole = await refusal(stub.Encode(codec_pb2.EncodeRequest(samples=samples, **config)))
    call = stub.StreamEncode(iter(recording_messages("StreamEncode", samples, 40_000, **config)))
    assert (await call.read()).HasField("started")
    for status in (whole, await refusal(call.read())):
        assert status.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in status.field_violations] == ["samples"]
        assert "full scale is 1" in status.message


async def test_encoding_beside_decoding_changes_neither(stub: Any) -> None:
    alone, _ = await decode(stub, stream_of(random_codes(), [4]))
    samples = np.random.default_rng(0).integers(-9000, 9000, 48000).astype("<i2").tobytes()
    request = codec_pb2.EncodeRequest(samples=samples, sample_format=S16, sample_rate_hertz=16000)
    first = await stub.Encode(request)
    decoded, *encoded = await asyncio.gather(
        decode(stub, stream_of(random_codes(), [4])), *(stub.Encode(request) for _ in range(4))
    )
    assert decoded[0] == alone
    assert all(answer.codes == first.codes for answer in encoded)
