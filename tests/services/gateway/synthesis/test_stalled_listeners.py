"""Callers that stop reading: their decode slots serve others, and they get the same samples once they read on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.status import StatusError
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES, numbered_audio
from tests.support.waits import eventually

Code = grpc.StatusCode
FRAMES = 200
SLOTS = 3
SMALL_WINDOW = [
    ("grpc.http2.lookahead_bytes", 8192),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


@pytest.fixture
async def deployment() -> AsyncIterator[FakeDeployment]:
    async with fake_deployment(slot_patience_seconds=0.2, decode_ahead_frames=8, max_full_replicas=0) as running:
        running.codec.slots = asyncio.Semaphore(SLOTS)
        await running.gateway.wait_ready()
        yield running


@pytest.fixture
async def connect(deployment: FakeDeployment) -> AsyncIterator[Callable[[], Any]]:
    """Stubs with a connection each, which buffers little that is not read."""
    channels: list[grpc.aio.Channel] = []

    def connect() -> Any:
        channels.append(grpc.aio.insecure_channel(deployment.target, options=SMALL_WINDOW))
        return tts_pb2_grpc.TextToSpeechServiceStub(channels[-1])

    yield connect
    for channel in channels:
        await channel.close(None)


def slots(deployment: FakeDeployment, event: str) -> float:
    registry = deployment.gateway.server.metrics.registry
    return registry.get_sample_value("tts_decode_slots_total", {"event": event}) or 0


async def stalled(
    deployment: FakeDeployment, connect: Callable[[], Any], request: tts_pb2.StreamSynthesizeRequest, count: int
) -> list[Any]:
    """Calls that have read their header only. The gateway has released the decode slot of each."""
    before = slots(deployment, "given_back")
    calls = [connect().StreamSynthesize(request) for _ in range(count)]
    for call in calls:
        await call.read()
    await eventually(lambda: slots(deployment, "given_back") >= before + count)
    return calls


async def samples_of(call: Any) -> bytes:
    """The samples of the rest of a call, which must end OK."""
    content = b""
    while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        if message.HasField("audio_chunk"):
            assert message.audio_chunk.sample_offset == len(content) // 2
            content += message.audio_chunk.audio_content
    assert await call.code() is Code.OK
    return content


async def test_a_new_caller_is_served_although_stalled_ones_had_every_slot(
    deployment: FakeDeployment, connect: Callable[[], Any], stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = FRAMES
    calls = await stalled(deployment, connect, stream_request, SLOTS)
    fresh = connect().StreamSynthesize(stream_request)
    await fresh.read()
    async with asyncio.timeout(20):
        assert await samples_of(fresh) == numbered_audio(range(FRAMES))
        for call in calls:
            assert await samples_of(call) == numbered_audio(range(FRAMES))
    assert slots(deployment, "taken_again") >= SLOTS
    assert deployment.codec.slots._value == SLOTS


async def test_slot_that_is_taken_again_decodes_from_the_last_checkpoint(
    deployment: FakeDeployment, connect: Callable[[], Any], stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.frame_count = FRAMES
    (call,) = await stalled(deployment, connect, stream_request, 1)
    first = deployment.codec.calls[0].frame_count
    assert 8 <= first < FRAMES
    await samples_of(call)
    again = deployment.codec.calls[1].request
    assert again.checkpoint and again.resume == deployment.codec.calls[0].request.resume
    begun = codec_pb2.StreamDecodeStarted.FromString(again.checkpoint).first_frame_index
    assert first - 10 < begun < first  # messages have four frames, and the fake's checkpoints need three again


async def test_codec_without_checkpoints_decodes_from_the_first_frame(
    deployment: FakeDeployment, connect: Callable[[], Any], stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.codec.sends_checkpoints = False
    deployment.engine.frame_count = FRAMES
    (call,) = await stalled(deployment, connect, stream_request, 1)
    assert await samples_of(call) == numbered_audio(range(FRAMES))
    assert not deployment.codec.calls[1].request.checkpoint


async def test_a_caller_that_reads_again_waits_for_a_slot(
    deployment: FakeDeployment, connect: Callable[[], Any], stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Even a codec with a full queue is asked again, as the caller already has audio."""
    deployment.engine.frame_count = FRAMES
    (call,) = await stalled(deployment, connect, stream_request, 1)
    full = StatusError(Code.UNAVAILABLE, "QUEUE_FULL", "All slots are taken.", retry_delay_s=0.05)
    deployment.codec.refusals = [full, full]
    assert await samples_of(call) == numbered_audio(range(FRAMES))
    assert len(deployment.codec.calls) >= 4


async def test_losing_a_codec_without_a_slot_changes_no_sample(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    async with fake_deployment(
        replica_count=2, failover_wait_seconds=10.0, slot_patience_seconds=0.2, decode_ahead_frames=8
    ) as deployment:
        deployment.engines[0].frame_count = deployment.engines[1].frame_count = FRAMES
        await deployment.gateway.wait_ready()
        async with grpc.aio.insecure_channel(deployment.target, options=SMALL_WINDOW) as channel:
            stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            (call,) = await stalled(deployment, lambda: stub, stream_request, 1)
            index = 0 if deployment.codecs[0].calls else 1
            await deployment.codec_servers[index].drain(0)
            assert await samples_of(call) == numbered_audio(range(FRAMES))


async def test_a_caller_below_the_minimum_pace_is_ended_with_the_reason(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    """It reads a message now and then, so no single write takes too long."""
    async with fake_deployment(
        slot_patience_seconds=0.1, decode_ahead_frames=4, write_timeout_seconds=5.0, min_listener_pace=1.0,
        max_utterance_audio_seconds=300,
    ) as deployment:  # fmt: skip
        deployment.engine.frame_count = 3000
        await deployment.gateway.wait_ready()
        async with grpc.aio.insecure_channel(deployment.target, options=SMALL_WINDOW) as channel:
            call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)

            async with asyncio.timeout(60):
                while not failed(deployment, "CLIENT_TOO_SLOW"):
                    await call.read()  # without a timeout: a cancelled read would cancel the call
                    await asyncio.sleep(1.0)
            error = await failure(call)
            assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "CLIENT_TOO_SLOW")
            assert "at least 1 s in a second are needed" in error.message
            assert int(error.metadata["sent_sample_count"]) < 3000 * FRAME_SAMPLES
        assert deployment.codec.slots._value == 1000


def failed(deployment: FakeDeployment, reason: str) -> float:
    registry = deployment.gateway.server.metrics.registry
    return registry.get_sample_value("tts_failed_total", {"reason": reason}) or 0
