"""The mark in what is decoded: how faint, how complete, of which key; and looking for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from csm.codec.v1 import codec_pb2

from csm_codec.mimi.loader import load_mimi
from csm_codec.watermark.detect.detector import Detection
from services.codec import servicer
from services.codec.settings import CodecSettings
from services.common.rpc.status import from_rpc_error
from tests.support.codec_stage import (
    F32,
    FRAMES,
    config_message,
    decode,
    eventually,
    random_codes,
    refusal,
    running_codec,
    stream_of,
)


async def test_audio_is_the_decoded_clip_with_a_faint_mark(stub: Any, bundle: Path) -> None:
    samples, complete = await decode(stub, stream_of(random_codes(), [1, 4, 100]))
    pcm = np.frombuffer(samples, "<f4")
    with torch.inference_mode():
        clean = load_mimi(bundle / "mimi").model.decode(torch.from_numpy(random_codes()).T[None])[0, 0].numpy()
    assert (complete.frame_count, complete.sample_count) == (FRAMES, FRAMES * 1920)
    mark = np.std(pcm - clean) / np.std(clean)
    assert 0.001 < mark < 0.01  # 47 dB
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
    assert complete.watermark.key_id == "new"
    assert complete.watermark.scheme == "silentcipher-24000hz-40bit"
    assert complete.decode_duration.nanos > 0 and complete.watermark_duration.nanos > 0


async def test_short_audio_is_whole_and_partly_marked(stub: Any) -> None:
    _, complete = await decode(stub, stream_of(random_codes(1), [1]))
    assert complete.sample_count == 1920
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_PARTIAL


async def test_a_partial_mark_is_an_error_where_a_full_one_is_required(settings: CodecSettings) -> None:
    """A clip that is over before its first audio delivers none; a longer one has delivered audio by then."""
    async with running_codec(settings, require_full_watermark=True) as (stage, stub):
        call = stub.StreamDecode(iter(stream_of(random_codes(2), [2])))
        messages = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in call:
                messages.append(message)
        status = from_rpc_error(caught.value)
        assert (status.code, status.reason) == (grpc.StatusCode.INTERNAL, "WATERMARK_FAILED")
        assert "too short or too quiet" in status.message
        assert all(message.WhichOneof("event") == "audio" for message in messages)
        _, complete = await decode(stub, stream_of(random_codes(), [FRAMES]))
        assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
        await eventually(lambda: stage.async_codec.thread.num_streams == 0)


async def test_another_key_leaves_another_mark(stub: Any) -> None:
    active, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    old, complete = await decode(stub, stream_of(random_codes(), [FRAMES], watermark_key_id="old"))
    assert complete.watermark.key_id == "old" and old != active
    status = await refusal(decode(stub, [config_message(watermark_key_id="lost")]))
    assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND")


async def test_untrained_networks_detect_nothing(stub: Any) -> None:
    samples, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    request = codec_pb2.DetectWatermarkRequest(samples=samples, sample_format=F32, sample_rate_hertz=24000)
    found = await stub.DetectWatermark(request)
    assert not found.detected and found.key_id == "" and 0 <= found.confidence < 0.9
    request.key_ids.append("nobody")
    assert (await refusal(stub.DetectWatermark(request))).code is grpc.StatusCode.NOT_FOUND


async def test_a_key_named_more_than_once_is_looked_for_once(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[list[str]] = []

    def detect(silentcipher: Any, keys: Any, pcm: Any, rate_hz: int) -> Detection:
        searched.append(sorted(key.id for key in keys))
        return Detection(False, 0.0, "")

    monkeypatch.setattr(servicer, "detect", detect)
    for key_ids in (["new"] * 1000, ["", "new"], ["old", "", "old"], []):
        await stub.DetectWatermark(
            codec_pb2.DetectWatermarkRequest(
                samples=bytes(4), sample_format=F32, sample_rate_hertz=24000, key_ids=key_ids
            )
        )
    assert searched == [["new"], ["new"], ["new", "old"], ["new", "old"]]
