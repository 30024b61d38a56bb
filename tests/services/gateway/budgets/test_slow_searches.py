"""A search whose recording comes so slowly that it would keep others from their turn for any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, watermark_pb2, watermark_pb2_grpc

from services.gateway.rpc import watermark_servicer
from tests.services.gateway.voices.callers import refusal
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.waits import eventually

PCM = tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000)


async def pieces(content: bytes, every_s: float) -> AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]:
    """The same content again and again, for ever. A write that meets the end of the call would lose its status."""
    config = watermark_pb2.StreamDetectWatermarkConfig(audio_format=PCM)
    yield watermark_pb2.StreamDetectWatermarkRequest(config=config)
    while True:
        yield watermark_pb2.StreamDetectWatermarkRequest(audio_content=content)
        await asyncio.sleep(every_s)


async def started(call: Any, deployment: FakeDeployment) -> None:
    await eventually(lambda: deployment.codec.searches)
    assert not call.done()


@pytest.mark.parametrize(("is_slow", "slow_s"), [(True, 0.3), (False, 0.3), (True, 30.0)])
async def test_a_slow_sender_loses_its_place_to_a_waiting_call(
    monkeypatch: pytest.MonkeyPatch, is_slow: bool, slow_s: float
) -> None:
    """A search that has been slow for a short time only keeps it."""
    monkeypatch.setattr(watermark_servicer, "SLOW_SECONDS", slow_s)
    recording = tts_pb2.AudioRecording(audio_format=PCM, audio_content=bytes(4800))
    waiting = watermark_pb2.DetectWatermarkRequest(recording=recording)
    async with (
        fake_deployment(max_detections=1) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        stub: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)
        slow = stub.StreamDetectWatermark(pieces(bytes(2), 0.3) if is_slow else pieces(bytes(2000), 0.02), timeout=60)
        await started(slow, running)
        await asyncio.sleep(1.2)
        assert not slow.done()  # as no other search waits
        if is_slow and slow_s < 1:
            answer, refused = await asyncio.gather(stub.DetectWatermark(waiting, timeout=60), refusal(slow))
            assert answer.detected
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DETECTION_BUSY")
            assert "arrives too slowly" in refused.message
        else:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.DetectWatermark(waiting, timeout=0.6)
            assert not slow.done()
            slow.cancel()
