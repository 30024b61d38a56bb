"""What metrics and the summary report of a synthesis in unclear cases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.status import StatusError, from_rpc_error
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import CatalogSource
from services.gateway.stages.errors import lost_after, other_model
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.text_streams import messages_of
from tests.support.waits import eventually

Request = tts_pb2.StreamSynthesizeRequest
Value = Callable[..., Any]


@pytest.fixture
def value(deployment: FakeDeployment) -> Value:
    """A sample of the gateway's metrics."""
    sample: Value = deployment.gateway.server.metrics.registry.get_sample_value
    return sample


async def summary_of(call: Any) -> tts_pb2.SynthesisSummary:
    messages = [message async for message in call]
    summary: tts_pb2.SynthesisSummary = messages[-1].summary
    return summary


async def test_a_deadline_that_a_stage_sees_first_is_a_passed_deadline_and_no_failure(
    deployment: FakeDeployment, tts: Any, stream_request: Request, value: Value
) -> None:
    """Calls to stages have the caller's deadline, so it is chance which call ends first."""
    passed = StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "Deadline Exceeded")
    deployment.engine.script.fail_at, deployment.engine.script.failure = 3, passed
    error = await failure(tts.StreamSynthesize(stream_request))
    assert error.reason == "DEADLINE_EXCEEDED" and "set a longer one" in error.message
    assert value("tts_cancelled_total", {"stage": "generate"}) == 1
    assert value("tts_failed_total", {"reason": "DEADLINE_EXCEEDED"}) is None


async def failure_of(tts: Any, method: str, request: Request) -> StatusError:
    if method == "Synthesize":
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await tts.Synthesize(tts_pb2.SynthesizeRequest(input=request.input, audio_config=request.audio_config))
        return from_rpc_error(failed.value)
    if method == "StreamSynthesize":
        return await failure(tts.StreamSynthesize(request))
    request.ClearField("input")
    return await failure(tts.StreamSynthesizeText(messages_of(request)))


METHODS = ("Synthesize", "StreamSynthesize", "StreamSynthesizeText")


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_is_refused_while_the_gateway_is_not_ready_is_counted(
    deployment: FakeDeployment, tts: Any, stream_request: Request, value: Value, method: str
) -> None:
    await deployment.engine_server.drain(0)
    deployment.gateway._catalogs.forget()
    assert (await failure_of(tts, method, stream_request)).reason == "ENGINE_UNREACHABLE"
    assert value("tts_failed_total", {"reason": "ENGINE_UNREACHABLE"}) == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_wrong_request_is_counted(tts: Any, stream_request: Request, value: Value, method: str) -> None:
    stream_request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_UNSPECIFIED
    assert (await failure_of(tts, method, stream_request)).reason == "UNSUPPORTED_ENCODING"
    assert value("tts_failed_total", {"reason": "UNSUPPORTED_ENCODING"}) == 1


async def test_a_caller_that_leaves_before_its_request_is_read_is_counted_there(tts: Any, value: Value) -> None:
    call = tts.StreamSynthesizeText()
    await call.wait_for_connection()
    call.cancel()
    await eventually(lambda: value("tts_cancelled_total", {"stage": "request"}) == 1)


@pytest.mark.parametrize("is_text", [False, True])
async def test_a_caller_that_does_not_take_the_last_message_is_counted(
    deployment: FakeDeployment, tts: Any, stream_request: Request, value: Value, is_text: bool, monkeypatch: Any
) -> None:
    async def finish(sink: StreamSink, result: object) -> None:
        raise sink._too_slow(30.0)

    monkeypatch.setattr(StreamSink, "finish", finish)
    if is_text:
        stream_request.input.text = ""
        error = await failure(tts.StreamSynthesizeText(messages_of(stream_request)))
    else:
        error = await failure(tts.StreamSynthesize(stream_request))
    assert error.reason == "CLIENT_TOO_SLOW"
    assert value("tts_failed_total", {"reason": "CLIENT_TOO_SLOW"}) == 1
    assert value("tts_real_time_factor_count") == 0


async def test_the_server_s_deadline_covers_the_last_message(stream_request: Request, monkeypatch: Any) -> None:
    async def finish(sink: StreamSink, result: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(StreamSink, "finish", finish)
    async with (
        fake_deployment(default_deadline_seconds=1.0) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert (await failure(stub.StreamSynthesize(stream_request))).reason == "DEADLINE_EXCEEDED"


async def test_first_audio_held_back_to_the_end_counts_when_it_is_sent(
    deployment: FakeDeployment, tts: Any, stream_request: Request, value: Value
) -> None:
    deployment.engine.frame_count = 1
    stream_request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_AAC
    stats = (await summary_of(tts.StreamSynthesize(stream_request))).stats
    assert stats.sample_count > 0 and stats.first_audio_latency.ToNanoseconds() > 0
    assert value("tts_first_audio_seconds_count") == 1 and value("tts_first_audio_seconds_sum") > 0


async def test_the_first_audio_of_a_text_is_that_of_its_first_sentence_with_audio(
    deployment: FakeDeployment, tts: Any, config: Request, value: Value
) -> None:
    deployment.engine.frame_counts = [0, 10, 10]
    stats = (await summary_of(tts.StreamSynthesizeText(messages_of(config)))).stats
    assert stats.first_audio_latency.ToNanoseconds() > 0
    assert value("tts_first_audio_seconds_sum") > 0


@pytest.fixture
def plans_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.2 s before any stage is asked: for a stage's info, the voices' database, or a place."""
    get = CatalogSource.get

    async def late(catalogs: CatalogSource, timeout_s: float) -> Any:
        await asyncio.sleep(0.2)
        return await get(catalogs, timeout_s)

    monkeypatch.setattr(CatalogSource, "get", late)


@pytest.mark.usefixtures("plans_take_long")
async def test_times_count_from_the_arrival_of_the_call_and_not_from_its_plan(
    tts: Any, stream_request: Request, value: Value
) -> None:
    began_s = time.monotonic()
    stats = (await summary_of(tts.StreamSynthesize(stream_request))).stats
    assert 0.2 < stats.queue_duration.ToTimedelta().total_seconds() < time.monotonic() - began_s
    assert value("tts_first_audio_seconds_sum") > 0.2


@pytest.mark.usefixtures("plans_take_long")
async def test_the_whole_time_of_a_text_counts_from_the_arrival_of_the_call(tts: Any, config: Request) -> None:
    """A text stream's time counts from the end of its first sentence, which may take its writer any time."""
    stats = (await summary_of(tts.StreamSynthesizeText(messages_of(config)))).stats
    assert stats.total_duration.ToTimedelta().total_seconds() > 0.2


async def test_the_writer_s_pauses_do_not_count_as_slow_speech(
    deployment: FakeDeployment, tts: Any, config: Request, value: Value, clock: Clock
) -> None:
    """A language model may pause before it writes. An alert fires for calls that last longer than their audio."""
    begun, *rest = messages_of(config)
    call = tts.StreamSynthesizeText()
    await call.write(begun)
    labels = {"grpc_type": "bidi_stream", "grpc_service": "csm.v1.TextToSpeechService"}
    labels["grpc_method"] = "StreamSynthesizeText"
    await eventually(lambda: value("grpc_server_started_total", labels))
    clock.put_forward(50)
    for message in rest:
        await call.write(message)
    await call.done_writing()
    stats = (await summary_of(call)).stats
    assert stats.total_duration.seconds >= 50
    assert value("tts_real_time_factor_count") == 1
    assert value("tts_real_time_factor_sum") < 50 / stats.audio_duration.ToTimedelta().total_seconds()


async def test_sentences_that_leave_the_window_do_not_count_as_dropped_turns(
    deployment: FakeDeployment, tts: Any, config: Request
) -> None:
    config.context.turns.add(speaker=1, text="When shall we?")
    deployment.engine.dropped_segment_count = 3
    assert (await summary_of(tts.StreamSynthesizeText(messages_of(config)))).stats.dropped_turn_count == 1


async def test_a_codec_of_an_earlier_version_is_not_asked_to_close_the_clip_of_a_text(
    deployment: FakeDeployment, tts: Any, config: Request
) -> None:
    """It reports each sentence separately, and there is no state to complete."""
    deployment.codec.sends_started = deployment.codec.info.sends_started = False
    deployment.codec.coverages = [codec_pb2.WATERMARK_COVERAGE_PARTIAL] * 4
    summary = await summary_of(tts.StreamSynthesizeText(messages_of(config)))
    assert summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_PARTIAL
    assert len(deployment.codec.calls) == 3


async def test_each_sentence_of_a_text_may_fail_over_as_often_as_an_utterance(config: Request) -> None:
    lost = StatusError(grpc.StatusCode.UNAVAILABLE, "DRAINING", "gone")
    async with (
        fake_deployment(max_failovers=1) as deployment,
        grpc.aio.insecure_channel(deployment.target) as channel,
    ):
        deployment.engine.refusals = [lost, None] * 3
        stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        assert (await summary_of(stub.StreamSynthesizeText(messages_of(config)))).stats.frame_count == 30


async def test_a_text_ends_for_the_reason_of_its_first_sentence_that_was_cut(
    deployment: FakeDeployment, tts: Any, config: Request
) -> None:
    config.max_audio_duration.FromMilliseconds(800)
    deployment.engine.frame_counts = [5, 5]
    deployment.engine.end_reason = engine_pb2.FINISH_REASON_CONTEXT_WINDOW
    summary = await summary_of(tts.StreamSynthesizeText(messages_of(config)))
    assert summary.stats.frame_count == 10 and len(deployment.engine.calls) == 2
    assert summary.finish_reason == tts_pb2.FINISH_REASON_CONTEXT_WINDOW


def test_a_loss_reported_for_the_whole_text_keeps_the_reason_of_the_failed_failover() -> None:
    error = other_model("ENGINE")
    error.code, error.why = grpc.StatusCode.UNAVAILABLE, " The engine that answers is of another bundle."
    assert lost_after(lost_after(error, 10), 30).message.endswith(error.why)
