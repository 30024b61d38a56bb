"""What of a recording the gateway holds while it waits for its search, and while it is searched."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, watermark_pb2, watermark_pb2_grpc

from services.common.rpc.calls import Context
from services.gateway.audio.pieces import PIECE_BYTES
from services.gateway.audio.recording import Recording
from services.gateway.requests.recordings import open_pieces
from services.gateway.rpc import watermark_servicer
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FakeCodec
from tests.support.waits import eventually

PCM = tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000)
REQUEST = watermark_pb2.DetectWatermarkRequest(
    recording=tts_pb2.AudioRecording(audio_format=PCM, audio_content=bytes(5 * PIECE_BYTES))
)


class _Watched(SimpleNamespace):
    """In place of a message, of which Python has no weak references."""


async def test_a_recording_is_received_when_its_turn_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """So those that wait take no memory, however many and long they are."""
    received: list[Any] = []
    next_message = watermark_servicer._next

    async def counted(requests: AsyncIterator[Any]) -> Any:
        message = await next_message(requests)
        received.append(message)
        return message

    monkeypatch.setattr(watermark_servicer, "_next", counted)
    async with (
        fake_deployment(max_detections=2) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        stub: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)
        deployment.codec.search_script.pause_at = 0
        searches = deployment.gateway._watermark._searches
        calls = [asyncio.ensure_future(stub.DetectWatermark(REQUEST)) for _ in range(5)]
        await eventually(lambda: len(deployment.codec.detected) == 2 and searches.num_waiting == 3)
        assert received == [REQUEST] * 2
        deployment.codec.search_script.resume.set()
        assert all(answer.detected for answer in await asyncio.gather(*calls))
        assert received == [REQUEST] * 5


async def test_a_message_is_dropped_before_its_recording_is_searched(
    deployment: FakeDeployment, watermark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a second copy of the encoded bytes."""
    held: list[weakref.ref[_Watched]] = []
    next_message = watermark_servicer._next

    async def watched(requests: AsyncIterator[Any]) -> _Watched:
        request = await next_message(requests)
        recording = _Watched(audio_content=request.recording.audio_content, audio_format=request.recording.audio_format)
        message = _Watched(recording=recording, key_ids=list(request.key_ids))
        held.extend((weakref.ref(recording), weakref.ref(message)))
        return message

    monkeypatch.setattr(watermark_servicer, "_next", watched)
    deployment.codec.search_script.pause_at = 0
    call = asyncio.ensure_future(watermark.DetectWatermark(REQUEST))
    await eventually(deployment.codec.search_script.paused.is_set)
    assert [reference() for reference in held] == [None, None]
    deployment.codec.search_script.resume.set()
    assert (await call).detected


async def test_a_recording_is_decoded_as_the_codec_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the search has started in the codec there is one piece, for its sample rate."""
    decoded, at_the_start = list[Recording](), list[int]()

    def counted(*arguments: Any) -> Iterator[Recording]:
        for piece in open_pieces(*arguments):
            decoded.append(piece)
            yield piece

    class Codec(FakeCodec):
        async def StreamDetectWatermark(
            self, requests: AsyncIterator[codec_pb2.StreamDetectWatermarkRequest], context: Context
        ) -> None:
            at_the_start.append(len(decoded))
            await super().StreamDetectWatermark(requests, context)

    monkeypatch.setattr(watermark_servicer, "open_pieces", counted)
    async with (
        fake_deployment(codec=Codec) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        stub: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)
        assert (await stub.DetectWatermark(REQUEST)).detected
    assert at_the_start == [1] and len(decoded) == 5
