"""An engine with another bundle beside one that fits, as during the rollout of a new model."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from tests.services.gateway.synthesis.lost_stages import FRAMES, assert_undisturbed, go_on, pause, paused
from tests.support.fake_deployment import failure, fake_deployment
from tests.support.waits import eventually


async def test_a_stream_of_a_conversation_skips_engines_that_do_not_match(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    """The conversation's key always leads to the same engine, which here has another bundle."""
    stream_request.return_codes = True
    stream_request.conversation_id = "what we talk about"
    async with (
        fake_deployment(replica_count=3, failover_wait_seconds=20.0) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        for engine in running.engines:
            engine.frame_count = FRAMES
        pause(running.engines, 3)
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        reading = asyncio.create_task(assert_undisturbed(stub.StreamSynthesize(stream_request, timeout=60)))
        lost = await paused(running.engines)
        left = [engine for index, engine in enumerate(running.engines) if index != lost]
        for engine in left:
            engine.may_start.clear()
        go_on(left)
        await running.engine_servers[lost].drain(0)
        await eventually(lambda: any(engine.calls for engine in left))
        next(engine for engine in left if engine.calls).info.weights_digest = "other"
        for engine in left:
            engine.may_start.set()
        await reading


async def test_an_engine_that_drops_other_turns_does_not_take_over(
    stream_request: tts_pb2.StreamSynthesizeRequest,
) -> None:
    """It has other weights or another window, so it would speak the rest differently."""
    async with (
        fake_deployment(replica_count=2, failover_wait_seconds=1.0) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        pause(running.engines, 3)
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        reading = asyncio.create_task(failure(stub.StreamSynthesize(stream_request, timeout=60)))
        lost = await paused(running.engines)
        other = running.engines[1 - lost]
        other.dropped_segment_count = 1
        go_on([other])
        await running.engine_servers[lost].drain(0)
        error = await reading
        assert error.reason == "ENGINE_LOST" and "another bundle" in error.message
        assert other.calls
