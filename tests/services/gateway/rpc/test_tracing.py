"""One trace covers the work of gateway, engine and codec for a request, shows its outcome, and has no content."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import EngineStoppedError
from services.common.telemetry import logs
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import fake_frames
from tests.support.waits import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE_ID}-{CALLERS_SPAN}-01"),)
NOT_SAMPLED = (("traceparent", f"00-{TRACE_ID}-{CALLERS_SPAN}-00"),)
REQUEST_ID = "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11"
CALLS = ("StreamSynthesize", "Generate", "StreamDecode")


def traced(collector: Any, **settings: Any) -> AbstractAsyncContextManager[FakeDeployment]:
    """Stages that export their spans to the collector, the last ones when the block ends."""
    return fake_deployment(trace_endpoint=collector.endpoint, **settings)


def stub(deployment: FakeDeployment, channels: list[grpc.aio.Channel]) -> Any:
    channels.append(grpc.aio.insecure_channel(deployment.target))
    return tts_pb2_grpc.TextToSpeechServiceStub(channels[-1])


@pytest.fixture
async def channels() -> Any:
    opened: list[grpc.aio.Channel] = []
    yield opened
    for channel in opened:
        await channel.close(None)


async def test_a_trace_covers_all_three_stages(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    async with traced(collector) as deployment:
        async for _ in stub(deployment, channels).StreamSynthesize(stream_request):
            pass
    gateway, engine, codec = (collector.only(name) for name in CALLS)
    assert [span.service for span in (gateway, engine, codec)] == ["gateway", "engine", "codec"]
    assert gateway.parent_id == "" and engine.parent_id == codec.parent_id == gateway.span_id
    assert {span.trace_id for span in (gateway, engine, codec)} == {gateway.trace_id}


async def test_recordings_of_the_context_are_in_the_trace(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.request_id = REQUEST_ID
    recording = stream_request.context.turns.add(text="Before.").audio.recording
    recording.audio_content = bytes(1000)
    recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    recording.audio_format.sample_rate_hertz = 24_000
    async with traced(collector) as deployment:
        async for _ in stub(deployment, channels).StreamSynthesize(stream_request):
            pass
    gateway, encoding = collector.only("StreamSynthesize"), collector.only("CodecService/StreamEncode")
    assert (encoding.service, encoding.parent_id) == ("codec", gateway.span_id)
    assert encoding.attributes["csm.request_id"] == REQUEST_ID and not encoding.is_error


async def test_a_span_has_the_outcome_of_its_call(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    stream_request.request_id = REQUEST_ID
    async with traced(collector) as deployment:
        async for _ in stub(deployment, channels).StreamSynthesize(stream_request):
            pass
    span = collector.only("csm.v1.TextToSpeechService/StreamSynthesize")
    expected = {
        "rpc.system": "grpc",
        "rpc.service": "csm.v1.TextToSpeechService",
        "rpc.method": "StreamSynthesize",
        "rpc.grpc.status_code": 0,
        "csm.request_id": REQUEST_ID,
        "csm.frames": 10,
        "csm.finish_reason": "FINISH_REASON_END_OF_SPEECH",
    }
    assert expected.items() <= span.attributes.items()
    assert span.attributes["csm.first_audio_ms"] > 0
    assert [name for name, _ in span.events] == ["first audio"]
    assert span.ended and not span.is_error


async def test_trace_of_the_caller_is_continued(
    collector: Any, channels: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    async with traced(collector, trace_sample_share=0.0) as deployment:
        await stub(deployment, channels).Synthesize(unary_request, metadata=SAMPLED)
    gateway = collector.only("Synthesize")
    assert (gateway.trace_id, gateway.parent_id) == (TRACE_ID, CALLERS_SPAN)
    assert {span.service for span in collector.spans if span.trace_id == TRACE_ID} == {"gateway", "engine", "codec"}


async def test_trace_that_its_caller_does_not_sample_is_not_sent(
    collector: Any, channels: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    async with traced(collector) as deployment:
        await stub(deployment, channels).Synthesize(unary_request, metadata=NOT_SAMPLED)
    assert [span for span in collector.spans if span.trace_id == TRACE_ID] == []
    assert collector.named("Generate") == []


async def test_no_trace_that_begins_here_is_sent_at_a_share_of_0(
    collector: Any, channels: Any, unary_request: tts_pb2.SynthesizeRequest
) -> None:
    async with traced(collector, trace_sample_share=0.0) as deployment:
        await stub(deployment, channels).Synthesize(unary_request)
    assert collector.spans == []


@pytest.mark.parametrize("value", ["nonsense", f"00-{TRACE_ID}-{'0' * 16}-01", f"ff-{TRACE_ID}-{CALLERS_SPAN}-01"])
async def test_malformed_trace_of_a_caller_is_replaced(collector: Any, channels: Any, value: str) -> None:
    async with traced(collector) as deployment:
        call = stub(deployment, channels).GetServerInfo
        await call(tts_pb2.GetServerInfoRequest(), metadata=(("traceparent", value),))
    span = collector.only("GetServerInfo")
    assert span.parent_id == "" and span.trace_id != TRACE_ID


async def test_malformed_state_of_a_trace_is_dropped_and_not_logged(
    collector: Any, channels: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with traced(collector) as deployment:
        call = stub(deployment, channels).GetServerInfo
        await call(tts_pb2.GetServerInfoRequest(), metadata=(*SAMPLED, ("tracestate", "words of a caller")))
    assert collector.only("GetServerInfo").parent_id == CALLERS_SPAN
    assert "words of a caller" not in caplog.text


async def test_cancelled_call_ends_its_spans_as_cancelled(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    async with traced(collector) as deployment:
        deployment.engine.script.pause_at = 5
        call = stub(deployment, channels).StreamSynthesize(stream_request)
        await call.read()
        await deployment.engine.script.paused.wait()
        call.cancel()
        async with asyncio.timeout(60):
            await deployment.engine.calls[0].ended.wait()
            await deployment.codec.calls[0].ended.wait()
    for span in (collector.only(name) for name in CALLS):
        assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0], span.name
        assert span.attributes["csm.reason"] == "CANCELLED"
        assert span.ended and not span.is_error


async def test_call_past_its_deadline_is_an_error(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest, clock: Clock
) -> None:
    async with traced(collector) as deployment:
        await deployment.gateway.wait_ready()
        deployment.engine.script.pause_at = 5
        call = stub(deployment, channels).StreamSynthesize(stream_request, timeout=20.0)
        await deployment.engine.script.paused.wait()
        clock.put_forward(20.0)
        assert (await failure(call)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    span = collector.only("StreamSynthesize")
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert span.is_error


async def test_lost_engine_and_its_failover_are_events(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    async with traced(collector, replica_count=2, failover_wait_seconds=20.0) as deployment:
        await deployment.gateway.wait_ready()
        for engine in deployment.engines:
            engine.script.pause_at = 5
        reading = asyncio.create_task(read_all(stub(deployment, channels).StreamSynthesize(stream_request)))
        await eventually(lambda: any(engine.script.paused.is_set() for engine in deployment.engines))
        lost = 0 if deployment.engines[0].script.paused.is_set() else 1
        deployment.engines[1 - lost].script.resume.set()
        await deployment.engine_servers[lost].drain(0)
        await reading
    gateway = collector.only("StreamSynthesize")
    assert gateway.event("stage lost") == {"csm.stage": "engine", "csm.failover": 1, "csm.repair": 1}
    for name in ("failover resumed", "repair resumed"):  # the second is the former name
        assert gateway.event(name) == {"csm.stage": "engine"}
    first, second = collector.named("Generate")
    assert first.parent_id == second.parent_id == gateway.span_id
    assert [span.attributes["rpc.grpc.status_code"] for span in (first, second)] == [
        grpc.StatusCode.CANCELLED.value[0],
        grpc.StatusCode.OK.value[0],
    ]


async def read_all(call: Any) -> None:
    async for _ in call:
        pass


async def test_a_failed_failover_is_an_event_of_the_span(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    async with traced(collector, max_failovers=0) as deployment:
        deployment.engine.script.fail_at = 5
        deployment.engine.script.failure = EngineStoppedError("The engine stops.")
        with pytest.raises(grpc.aio.AioRpcError):
            await read_all(stub(deployment, channels).StreamSynthesize(stream_request))
    span = collector.only("StreamSynthesize")
    assert span.event("failover exhausted") == {"csm.stage": "engine"}
    assert span.is_error and span.attributes["csm.reason"] == "DRAINING"


@pytest.mark.filterwarnings("default")
async def test_spans_hold_no_content(
    collector: Any, channels: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """Neither of requests that succeed nor of those that fail, whose errors quote the wrong value."""
    stream_request.input.text = "Attack at dawn."
    stream_request.labels["label-of-ours"] = "value-of-ours"
    codes = fake_frames(300, 2)
    stream_request.context.turns.add(speaker=1, text="When shall we?").audio.codes.CopyFrom(codes)
    wrong = tts_pb2.StreamSynthesizeRequest()
    wrong.CopyFrom(stream_request)
    wrong.voice.name = "voice-of-theirs"
    async with traced(collector) as deployment:
        tts = stub(deployment, channels)
        await read_all(tts.StreamSynthesize(stream_request))
        with pytest.raises(grpc.aio.AioRpcError):
            await read_all(tts.StreamSynthesize(wrong))
        deployment.engine.refusal = RuntimeError("cannot say: Attack at dawn.")
        with pytest.raises(grpc.aio.AioRpcError):
            await read_all(tts.StreamSynthesize(stream_request))
    assert len(collector.named("StreamSynthesize")) == 3
    sent = b"\n".join(span.raw for span in collector.spans)
    for secret in (b"dawn", b"shall", b"of-ours", b"of-theirs", codes.codes[:16]):
        assert secret not in sent


async def test_log_lines_carry_the_trace_beside_the_request(
    collector: Any, channels: Any, unary_request: tts_pb2.SynthesizeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    unary_request.request_id = REQUEST_ID
    caplog.handler.addFilter(logs.RequestIdFilter())
    caplog.handler.setFormatter(logs.JsonFormatter())
    with caplog.at_level(logging.INFO):
        async with traced(collector) as deployment:
            await stub(deployment, channels).Synthesize(unary_request, metadata=SAMPLED)
    lines = [json.loads(line) for line in caplog.text.splitlines() if '"call ended"' in line]
    ours = [line for line in lines if line.get("trace_id") == TRACE_ID]
    assert {line["method"].split("/")[1] for line in ours} >= {"Synthesize", "Generate", "StreamDecode"}
    assert {line["request_id"] for line in ours if line["method"].endswith("Generate")} == {REQUEST_ID}
