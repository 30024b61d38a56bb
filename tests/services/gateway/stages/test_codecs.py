"""Codecs that are full or busy: where streams and recordings go."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc, watermark_pb2

from services.common.rpc import load_report
from services.common.rpc.status import from_rpc_error
from tests.services.gateway.stages.engines import Request, fill, metric, recording, say
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FakeCodec, numbered_audio
from tests.support.waits import eventually

WHOLE = numbered_audio(range(10))


async def test_full_codecs_are_skipped(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    for codec in deployment.codecs[:2]:
        fill(codec)
    for _ in range(4):
        assert await say(tts, stream_request) == WHOLE
    assert len(deployment.codecs[2].calls) == 4
    assert all(call.request.awaits_started for codec in deployment.codecs for call in codec.calls), "refused at once"
    moved = sum(len(codec.calls) for codec in deployment.codecs[:2])
    assert moved and metric(deployment, "tts_full_replicas_total", stage="codec", by="load", outcome="moved") == moved
    assert metric(deployment, "tts_failovers_total", stage="codec", outcome="resumed") == 0


async def test_calls_to_full_codecs_are_bounded(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    for codec in deployment.codecs:
        fill(codec)
    error = await failure(tts.StreamSynthesize(stream_request, timeout=60))
    assert (error.code, error.reason, error.retry_delay_s) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", 1.0)
    assert sum(len(codec.calls) for codec in deployment.codecs) == 4
    assert metric(deployment, "tts_full_replicas_total", stage="codec", by="load", outcome="moved") == 3
    assert metric(deployment, "tts_full_replicas_total", stage="codec", by="load", outcome="refused") == 1


async def test_a_lost_stream_fails_over_past_a_full_codec(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    for codec in deployment.codecs:
        codec.script.pause_at = 5
    call = asyncio.create_task(say(tts, stream_request))
    async with asyncio.timeout(60):
        lost = await eventually(lambda: [codec for codec in deployment.codecs if codec.calls])
        await lost[0].script.paused.wait()
    others = [codec for codec in deployment.codecs if codec is not lost[0]]
    for codec in others:
        codec.script.pause_at = None
    fill(others[0])
    await deployment.codec_servers[deployment.codecs.index(lost[0])].drain(0)
    assert await call == WHOLE
    assert metric(deployment, "tts_failovers_total", stage="codec", outcome="resumed") == 1


async def test_recordings_skip_full_codecs(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    for codec in deployment.codecs[:2]:
        fill(codec)
    turn = tts_pb2.Turn(text="What was said.", audio=tts_pb2.TurnAudio(recording=recording()))
    stream_request.context.turns.append(turn)
    for _ in range(4):
        assert await say(tts, stream_request) == WHOLE
    assert len(deployment.codecs[2].encoded) == 4


async def test_a_recording_that_all_codecs_refuse_is_sent_a_bounded_number_of_times(
    deployment: FakeDeployment, watermark: Any
) -> None:
    for codec in deployment.codecs:
        fill(codec)
    request = watermark_pb2.DetectWatermarkRequest(recording=recording())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await watermark.DetectWatermark(request, timeout=60)
    assert from_rpc_error(refused.value).reason == "QUEUE_FULL"
    assert metric(deployment, "tts_full_replicas_total", stage="codec", by="load", outcome="moved") == 3
    assert metric(deployment, "tts_full_replicas_total", stage="codec", by="load", outcome="refused") == 1


async def test_a_busier_codec_gets_fewer_streams(stream_request: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway knows that from load reports in the trailing metadata of its streams."""
    decode, busy = FakeCodec.StreamDecode, []

    async def reporting(self: FakeCodec, requests: Any, context: Any) -> None:
        await decode(self, requests, context)
        utilization = 10.0 if self in busy else 0.1
        report = engine_pb2.LoadReport(rps_fractional=1, application_utilization=utilization)
        context.set_trailing_metadata(((load_report.KEY, report.SerializeToString()),))

    monkeypatch.setattr(FakeCodec, "StreamDecode", reporting)
    async with fake_deployment(replica_count=2) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        busy.append(running.codecs[0])
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        async with asyncio.timeout(30):
            while True:
                before = len(running.codecs[0].calls)
                for _ in range(12):
                    await say(stub, stream_request)
                if len(running.codecs[0].calls) - before <= 2:
                    return
