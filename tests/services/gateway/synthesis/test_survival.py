"""A stream whose engine or codec is killed: the caller gets the same as from an undisturbed one, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import CodecError, EngineBusyError, EngineFaultError, EngineStoppedError, WatermarkError
from tests.services.gateway.synthesis.lost_stages import (
    FRAMES,
    assert_undisturbed,
    change_watermark,
    failovers,
    go_on,
    kill_all_engines,
    kill_codec,
    kill_engine,
    pause,
    paused,
)
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment, read_until_audio
from tests.support.fake_stages import FRAME_SAMPLES, numbered_audio
from tests.support.waits import eventually

Code = grpc.StatusCode


@pytest.fixture
async def deployment(request: pytest.FixtureRequest) -> AsyncIterator[FakeDeployment]:
    """Two replicas of each stage. Parameter: --failover-wait-seconds."""
    wait_s: float = getattr(request, "param", 5.0)
    async with fake_deployment(replica_count=2, failover_wait_seconds=wait_s) as running:
        for engine in running.engines:
            engine.frame_count = FRAMES
        await running.gateway.wait_ready()
        yield running


@pytest.fixture
def stream_request(stream_request: tts_pb2.StreamSynthesizeRequest) -> tts_pb2.StreamSynthesizeRequest:
    stream_request.return_codes = True
    return stream_request


async def read_frames(call: Any, count: int) -> None:
    """Reads the audio of the first `count` frames."""
    delivered = 0
    while delivered < count * FRAME_SAMPLES:
        delivered += (await call.read()).audio_chunk.sample_count


@pytest.mark.parametrize("frame", [0, 1, 13, FRAMES])
async def test_losing_an_engine_changes_no_sample(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, frame: int
) -> None:
    pause(deployment.engines, frame)
    call = tts.StreamSynthesize(stream_request)
    await kill_engine(deployment)
    await assert_undisturbed(call)
    assert failovers(deployment, "engine", "resumed") == 1
    seeds = {call.request.sampling_params.seed for engine in deployment.engines for call in engine.calls}
    assert len(seeds) == 1


@pytest.mark.parametrize("frame", [0, 1, 13])
async def test_losing_a_codec_changes_no_sample(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, frame: int
) -> None:
    pause(deployment.codecs, frame)
    call = tts.StreamSynthesize(stream_request)
    await kill_codec(deployment)
    await assert_undisturbed(call)
    assert failovers(deployment, "codec", "resumed") == 1
    assert {engine.calls[0].error for engine in deployment.engines if engine.calls} == {""}


async def test_losing_a_codec_before_its_last_message_changes_no_sample(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """It is lost when only the audio that it holds back is missing."""
    for codec in deployment.codecs:
        codec.info.latency_sample_count = FRAME_SAMPLES // 2
    pause(deployment.engines, FRAMES)
    call = tts.StreamSynthesize(stream_request)
    engine = await paused(deployment.engines)
    await eventually(lambda: any(codec.calls for codec in deployment.codecs))
    index = 0 if deployment.codecs[0].calls else 1
    await eventually(lambda: deployment.codecs[index].calls[0].frame_count >= FRAMES)
    await deployment.codec_servers[index].drain(0)
    go_on([deployment.engines[engine]])
    await assert_undisturbed(call)


async def test_losing_engine_and_codec_changes_no_sample(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 21)
    pause(deployment.codecs, 5)
    call = tts.StreamSynthesize(stream_request)
    await kill_codec(deployment)
    await kill_engine(deployment)
    await assert_undisturbed(call)
    assert failovers(deployment, "engine", "resumed") == failovers(deployment, "codec", "resumed") == 1


async def test_a_stream_waits_for_room_at_a_full_engine(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 5)
    call = tts.StreamSynthesize(stream_request)
    other = deployment.engines[1 - await paused(deployment.engines)]
    other.refusal = EngineBusyError("The queue is full.")
    await kill_engine(deployment)
    await eventually(lambda: len(other.calls) >= 3)
    other.refusal = None
    await assert_undisturbed(call)


@pytest.mark.parametrize("conversation", ["", "one that its engine remembers"])
async def test_an_engine_that_makes_an_invalid_frame_is_left(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, conversation: str
) -> None:
    stream_request.conversation_id = conversation
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    script = deployment.engines[await paused(deployment.engines)].script
    script.fail_at, script.failure = 13, EngineFaultError("The engine computed an invalid frame.")
    go_on(deployment.engines)
    await assert_undisturbed(call)
    assert failovers(deployment, "engine", "resumed") >= 1
    assert sum(len(engine.calls) for engine in deployment.engines) <= 3


async def test_a_codec_that_fails_a_stream_is_left(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.codecs, 13)
    call = tts.StreamSynthesize(stream_request)
    script = deployment.codecs[await paused(deployment.codecs)].script
    script.fail_at, script.failure = 13, CodecError("The codec failed in this stream's batch.")
    go_on(deployment.codecs)
    await assert_undisturbed(call)
    assert failovers(deployment, "codec", "resumed") >= 1
    assert sum(len(codec.calls) for codec in deployment.codecs) <= 3


@pytest.mark.parametrize(("frame", "reason"), [(0, "CODEC_FAULT"), (5, "CODEC_LOST")])
async def test_when_all_codecs_fail_a_stream_the_call_says_so(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, frame: int, reason: str
) -> None:
    for codec in deployment.codecs:
        codec.script.fail_at, codec.script.failure = frame, CodecError("The codec failed in this stream's batch.")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, reason)


@pytest.mark.parametrize(("frame", "reason"), [(0, "ENGINE_FAULT"), (5, "ENGINE_LOST")])
async def test_when_all_engines_make_invalid_frames_the_call_says_so(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, frame: int, reason: str
) -> None:
    for engine in deployment.engines:
        engine.script.fail_at = frame
        engine.script.failure = EngineFaultError("The engine computed an invalid frame.")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, reason)


async def test_a_unary_call_survives_a_lost_engine_and_codec(
    deployment: FakeDeployment, tts: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    pause(deployment.engines, 5)
    call = tts.Synthesize(unary_request)
    await kill_engine(deployment)
    assert (await call).audio_content == numbered_audio(range(FRAMES))


async def test_an_engine_lost_after_the_frame_limit_is_not_replaced(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """A resumed sequence must have a frame left to make."""
    stream_request.max_audio_duration.FromMilliseconds(800)
    pause(deployment.engines, 10)
    call = tts.StreamSynthesize(stream_request)
    await kill_engine(deployment)
    summary = [message async for message in call][-1].summary
    assert summary.finish_reason == tts_pb2.FINISH_REASON_MAX_AUDIO_DURATION
    assert sum(len(engine.calls) for engine in deployment.engines) == 1


async def test_an_engine_lost_after_the_last_frame_of_the_window_is_not_replaced(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for engine in deployment.engines:
        engine.prompt_token_count = 2048 - 13 + 1  # the window has 2,048 positions; the last frame needs none
    pause(deployment.engines, 13)
    call = tts.StreamSynthesize(stream_request)
    await kill_engine(deployment)
    summary = [message async for message in call][-1].summary
    assert summary.finish_reason == tts_pb2.FINISH_REASON_CONTEXT_WINDOW
    assert sum(len(engine.calls) for engine in deployment.engines) == 1


async def test_losses_beyond_the_limit_end_the_stream(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Every replica stops at the same frame."""
    for engine in deployment.engines:
        engine.script.fail_at = 5
        engine.script.failure = EngineStoppedError("The engine stops.")
    error = await failure(tts.StreamSynthesize(stream_request))
    assert error.code is Code.UNAVAILABLE
    assert sum(len(engine.calls) for engine in deployment.engines) == 4
    assert failovers(deployment, "engine", "resumed") == 3
    assert failovers(deployment, "engine", "exhausted") == 1


async def test_failure_that_is_no_loss_is_not_failed_over(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    for codec in deployment.codecs:
        codec.script.fail_at = 0
        codec.script.failure = WatermarkError("The message does not fit.")
    pause(deployment.engines, 1)
    error = await failure(tts.StreamSynthesize(stream_request))
    assert (error.code, error.reason) == (Code.INTERNAL, "WATERMARK_FAILED")
    assert sum(len(codec.calls) for codec in deployment.codecs) == 1


@pytest.mark.parametrize("deployment", [0.3], indirect=True)
async def test_an_engine_of_other_weights_does_not_take_over(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    deployment.engines[1].info.weights_digest = "other"
    pause(deployment.engines, 5)
    call = tts.StreamSynthesize(stream_request)
    await read_frames(call, 5)
    await kill_engine(deployment)
    error = await failure(call)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_LOST")
    assert error.metadata["delivered_sample_count"] == str(5 * FRAME_SAMPLES)
    assert failovers(deployment, "engine", "failed") == 1


@pytest.mark.parametrize("deployment", [0.3], indirect=True)
async def test_a_codec_of_other_weights_does_not_take_over(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    await tts.GetServerInfo(tts_pb2.GetServerInfoRequest())  # fills the catalog
    pause(deployment.codecs, 5)
    call = tts.StreamSynthesize(stream_request)
    index = await paused(deployment.codecs)
    await read_until_audio(call)
    deployment.codecs[1 - index].info.codec.weights_digest = "other"
    await kill_codec(deployment)
    error = await failure(call)
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_LOST")
    assert "is of another bundle (decoder or mark network)" in error.message
    assert failovers(deployment, "codec", "failed") == 1


@pytest.mark.parametrize(("unfit", "wait_s"), [(1, 5.0), (2, 0.6)], ids=["a fitting one is left", "none is left"])
async def test_a_stream_looks_for_a_codec_of_its_mark_network(
    stream_request: tts_pb2.StreamSynthesizeRequest, unfit: int, wait_s: float
) -> None:
    async with (
        fake_deployment(replica_count=3, failover_wait_seconds=wait_s) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        for engine in deployment.engines:
            engine.frame_count = FRAMES
        await deployment.gateway.wait_ready()
        pause(deployment.codecs, 13)
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)  # type: ignore[no-untyped-call]
        index = await paused(deployment.codecs)
        left = [codec for codec in deployment.codecs if codec is not deployment.codecs[index]]
        for codec in left[:unfit]:
            change_watermark(codec)
        go_on(left)
        if unfit == 1:
            await deployment.codec_servers[index].drain(0)
            await assert_undisturbed(call)
            assert failovers(deployment, "codec", "resumed") == 1
            return
        await read_until_audio(call)
        await deployment.codec_servers[index].drain(0)
        error = await failure(call)
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "CODEC_LOST")
        assert "is of another bundle (decoder or mark network)" in error.message and "config." not in error.message


async def test_cancel_during_a_failover_frees_everything(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    pause(deployment.engines, 5)
    call = tts.StreamSynthesize(stream_request)
    await read_until_audio(call)
    await kill_all_engines(deployment)
    await asyncio.sleep(0.1)  # the gateway waits for a replica by then; an earlier cancel would do too
    call.cancel()
    codec = next(codec for codec in deployment.codecs if codec.calls)
    async with asyncio.timeout(60):
        await codec.calls[0].ended.wait()
    assert codec.calls[0].error != ""
    running = deployment.gateway.server.metrics.registry.get_sample_value
    await eventually(lambda: not running("tts_running_requests"))
    assert failovers(deployment, "engine", "resumed") == failovers(deployment, "engine", "failed") == 0


async def test_deadline_during_a_failover_is_the_deadline(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    pause(deployment.engines, 5)
    call = tts.StreamSynthesize(stream_request, timeout=20.0)
    await read_frames(call, 5)
    await kill_all_engines(deployment)
    await asyncio.sleep(0.1)  # the gateway waits for a replica by then
    clock.put_forward(20.0)
    assert (await failure(call)).code is Code.DEADLINE_EXCEEDED


async def test_failover_can_be_turned_off(stream_request: tts_pb2.StreamSynthesizeRequest) -> None:
    async with (
        fake_deployment(replica_count=2, max_failovers=0) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        pause(deployment.engines, 5)
        call = tts_pb2_grpc.TextToSpeechServiceStub(channel).StreamSynthesize(stream_request)
        await read_frames(call, 5)
        await kill_engine(deployment)
        assert (await failure(call)).code is Code.UNAVAILABLE
        assert sum(len(engine.calls) for engine in deployment.engines) == 1
