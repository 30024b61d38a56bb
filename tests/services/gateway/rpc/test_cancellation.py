"""Calls that end early, cancelled, past their deadline or not read, free what they held."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, ended, failure, fake_deployment, read_until_audio
from tests.support.waits import eventually

Code = grpc.StatusCode
DEADLINE_S = 20.0  # less than the limits of writes and of silent stages


async def test_cancel_reaches_engine_and_codec(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engine.script.pause_at = 3
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await deployment.engine.script.paused.wait()
    call.cancel()
    assert await ended(deployment.engine.calls) == "CancelledError"
    assert await ended(deployment.codec.calls) != ""
    registry = deployment.gateway.server.metrics.registry
    await eventually(lambda: registry.get_sample_value("tts_cancelled_total", {"stage": "generate"}) == 1)
    await eventually(lambda: registry.get_sample_value("tts_running_requests") == 0)


async def test_client_deadline_reaches_the_engine(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    deployment.engine.script.pause_at = 3
    call = tts.StreamSynthesize(stream_request, timeout=DEADLINE_S)
    await read_until_audio(call)
    await deployment.engine.script.paused.wait()
    clock.put_forward(DEADLINE_S)
    error = await failure(call)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert await ended(deployment.engine.calls) == "CancelledError"
    for seen in (deployment.engine.calls[0], deployment.codec.calls[0]):
        assert DEADLINE_S / 2 < (seen.remaining_s or 0) <= 1.1 * DEADLINE_S  # gRPC rounds it up on its way


async def test_server_deadline_ends_calls_whose_client_sets_none(
    stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    async with (
        fake_deployment(default_deadline_seconds=DEADLINE_S) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        deployment.engine.script.pause_at = 3
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)
        await deployment.engine.script.paused.wait()
        clock.put_forward(DEADLINE_S)
        error = await failure(call)
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert await ended(deployment.engine.calls) == "CancelledError"


async def test_a_deadline_too_short_is_refused_before_any_work(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    async with (
        fake_deployment(min_first_audio_seconds=5) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        error = await failure(stub.StreamSynthesize(stream_request, timeout=3))
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT")
        assert deployment.engine.calls == []


async def test_a_client_that_stops_reading_is_ended_and_costs_no_decoding(
    stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    window = [("grpc.http2.lookahead_bytes", 65536), ("grpc.http2.bdp_probe", 0)]
    async with (
        fake_deployment(
            write_timeout_seconds=60.0, max_utterance_audio_seconds=300, slot_patience_seconds=300
        ) as deployment,
        grpc.aio.insecure_channel(deployment.target, options=window) as channel,
    ):
        deployment.engine.frame_count = 3750
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        call = stub.StreamSynthesize(stream_request)
        await call.read()
        assert await ended(deployment.engine.calls) == ""
        assert deployment.engine.calls[0].frame_count == 3750  # the engine never waited
        while not deployment.codec.calls[0].ended.is_set():
            await asyncio.sleep(0.05)
            clock.put_forward(10.0)
        assert deployment.codec.calls[0].frame_count < 3000  # the codec did
        error = await failure(call)
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "CLIENT_TOO_SLOW")


async def test_random_cancels_leave_nothing_behind(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Of thirty streams at once many are cancelled, each at another point; the others are complete."""
    deployment.engine.frame_count = 40
    chance = random.Random(0)

    async def read_some(leave_after: int) -> list[str]:
        call = tts.StreamSynthesize(stream_request)
        kinds: list[str] = []
        while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            kinds.append(message.WhichOneof("event"))
            if len(kinds) == leave_after:
                call.cancel()
                break
        return kinds

    plans = [chance.choice([1, 2, 5, 1000]) for _ in range(30)]
    for plan, kinds in zip(plans, await asyncio.gather(*map(read_some, plans)), strict=True):
        assert kinds[0] == "header" and set(kinds[1:-1]) <= {"audio_chunk"}
        assert (kinds[-1] == "summary") == (plan == 1000)
    for index in range(30):
        await ended(deployment.engine.calls, index)
        await ended(deployment.codec.calls, index)
    running = deployment.gateway.server.metrics.registry.get_sample_value
    await eventually(lambda: not running("tts_running_requests"))
