"""Calls that send or read nothing: how long they may last, how many there may be, and that no drain waits for them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc import server
from services.common.rpc.incoming import lingering
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import numbered_audio

Code = grpc.StatusCode
LONG_S = 60.0
SHORT_S = 10.0  # less than the limits of writes and of silent stages


@pytest.fixture(autouse=True)
def quick_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lingering, server):
        monkeypatch.setattr(module, "DRAIN_QUIET_S", 0.2)


def config(request: tts_pb2.StreamSynthesizeRequest) -> tts_pb2.StreamSynthesizeTextRequest:
    made = tts_pb2.StreamSynthesizeTextRequest(config=request)
    made.config.ClearField("input")
    return made


def text(words: str) -> tts_pb2.StreamSynthesizeTextRequest:
    return tts_pb2.StreamSynthesizeTextRequest(text=tts_pb2.TextPiece(text=words, flush=True))


@pytest.mark.parametrize("sends_config", [False, True])
async def test_text_call_that_sends_nothing_is_ended(
    stream_request: tts_pb2.StreamSynthesizeRequest, sends_config: bool
) -> None:
    async with fake_deployment(text_idle_seconds=0.3) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesizeText()
        if sends_config:
            await call.write(config(stream_request))
        error = await failure(call)
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "TEXT_STALLED")
        assert "No text has come for 0.3 s" in error.message


@pytest.mark.parametrize("stage", ["engine", "codec"])
async def test_text_call_is_not_idle_while_it_is_spoken(
    stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock, stage: str
) -> None:
    async with fake_deployment(text_idle_seconds=SHORT_S) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        script = deployment.engine.script if stage == "engine" else deployment.codec.script
        script.pause_at = 0
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesizeText()
        await call.write(config(stream_request))
        await call.write(text("One."))
        await script.paused.wait()
        for _ in range(5):  # each wait for a piece of text has its own limit
            clock.put_forward(SHORT_S)
            await asyncio.sleep(0.01)
        assert not call.done()
        script.resume.set()
        assert await _audio(call, 10) == numbered_audio(range(10))
        failing = asyncio.create_task(failure(call))
        while not failing.done():
            clock.put_forward(SHORT_S)
            await asyncio.sleep(0.01)
        assert (await failing).reason == "TEXT_STALLED"


async def test_longest_deadline_is_enforced(stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock) -> None:
    async with fake_deployment(max_deadline_seconds=SHORT_S) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        deployment.engine.script.pause_at = 5
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request, timeout=3600)
        await deployment.engine.script.paused.wait()
        clock.put_forward(SHORT_S)
        error = await failure(call)
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_streams_of_a_connection_are_bounded(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    """The client's gRPC library holds further calls back. The limit is one connection's."""
    async with fake_deployment(max_streams_per_connection=2) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        deployment.engine.script.pause_at = 5
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        await watch.read()  # as of a client that balances its calls
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        first = [stub.StreamSynthesize(stream_request) for _ in range(2)]
        for call in first:
            await call.read()
        third = stub.StreamSynthesize(stream_request)
        async with _channel(deployment) as other:
            fourth = tts_pb2_grpc.TextToSpeechServiceStub(other).StreamSynthesize(stream_request)
            async with asyncio.timeout(LONG_S):
                await fourth.read()
        assert len(deployment.engine.calls) == 3
        first[0].cancel()
        async with asyncio.timeout(LONG_S):
            await third.read()
        assert len(deployment.engine.calls) == 4


async def _half_open_text(channel: grpc.aio.Channel, request: tts_pb2.StreamSynthesizeRequest) -> Any:
    call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesizeText()
    await call.write(config(request))
    return call


async def _no_message(channel: grpc.aio.Channel, request: tts_pb2.StreamSynthesizeRequest) -> Any:
    """A call of StreamSynthesize that never sends its request."""
    stub: Any = channel.stream_stream(
        "/csm.v1.TextToSpeechService/StreamSynthesize",
        request_serializer=tts_pb2.StreamSynthesizeRequest.SerializeToString,
        response_deserializer=tts_pb2.StreamSynthesizeResponse.FromString,
    )
    call = stub()
    await call.wait_for_connection()
    return call


@pytest.mark.parametrize("open_call", [_half_open_text, _no_message])
async def test_drain_does_not_wait_for_a_half_open_call(
    stream_request: tts_pb2.StreamSynthesizeRequest, open_call: Any
) -> None:
    async with fake_deployment(drain_seconds=LONG_S) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        call = await open_call(channel, stream_request)
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        await deployment.gateway.server.drain()
        assert time.monotonic() - began_s < LONG_S / 2
        assert (await failure(call)).code is Code.UNAVAILABLE


@pytest.mark.parametrize("held_up", ["engine", "codec"])
async def test_a_drain_lets_a_text_speak_the_received_words(
    stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock, held_up: str
) -> None:
    """Even when the engine or the codec is still working on it."""
    async with fake_deployment(drain_seconds=LONG_S) as deployment, _channel(deployment) as channel:
        await deployment.gateway.wait_ready()
        script = (deployment.engine if held_up == "engine" else deployment.codec).script
        script.pause_at = 5
        call = await _half_open_text(channel, stream_request)
        await call.write(text("One."))
        await script.paused.wait()
        draining = asyncio.create_task(deployment.gateway.server.drain())
        for _ in range(5):
            await asyncio.sleep(0.02)
            clock.put_forward(1.0)  # five times as long as a drain waits for a quiet call
        assert not draining.done()
        script.resume.set()
        async with asyncio.timeout(LONG_S):
            assert await _audio(call, 10) == numbered_audio(range(10))
            error = await failure(call)
            await draining
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "DRAINING")


async def _audio(call: Any, frame_count: int) -> bytes:
    content = b""
    while len(content) < 2 * 1920 * frame_count:
        content += (await call.read()).audio_chunk.audio_content
    return content


def _channel(deployment: FakeDeployment) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(deployment.target, options=[("grpc.use_local_subchannel_pool", 1)])
