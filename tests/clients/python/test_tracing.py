"""A caller that traces finds the server's work in its own trace; one that does not sends nothing of the kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient, Client
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id, use_span

TOKEN = "a-token"


class Recorder(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Keeps the metadata of calls."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.target = ""

    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        self.seen.append(dict(context.invocation_metadata()))
        return tts_pb2.GetServerInfoResponse()

    async def StreamSynthesize(self, request: Any, context: Any) -> Any:
        self.seen.append(dict(context.invocation_metadata()))
        yield tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader())
        yield tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary())


@pytest.fixture
async def recorder(listen: Any) -> Recorder:
    recorder = Recorder()
    recorder.target = await listen(tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server, recorder)
    return recorder


async def call_each_way(recorder: Recorder) -> None:
    async with AsyncClient(recorder.target, timeout_s=20, token=TOKEN) as client:
        await client.server_info()
        await client.stream_synthesize("Hello.").read_all()
    await asyncio.to_thread(call_blocking, recorder.target)


def call_blocking(target: str) -> None:
    with Client(target, timeout_s=20, token=TOKEN) as client:
        client.server_info()
        client.stream_synthesize("Hello.").read_all()


async def test_calls_carry_the_current_span(recorder: Recorder) -> None:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("caller").start_span("work")
    with use_span(span):
        await call_each_way(recorder)
    context = span.get_span_context()
    parent = f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"
    assert [seen.get("traceparent") for seen in recorder.seen] == [parent] * 4
    assert [seen.get("authorization") for seen in recorder.seen] == [f"Bearer {TOKEN}"] * 4


async def test_calls_without_a_span_carry_none(recorder: Recorder) -> None:
    await call_each_way(recorder)
    assert len(recorder.seen) == 4
    assert not any("traceparent" in seen for seen in recorder.seen)
