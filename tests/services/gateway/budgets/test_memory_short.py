"""A gateway that is short of memory: which calls it ends, and that clients recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc.incoming import memory_guard
from services.gateway.stage import HOLDS_MODELS
from tests.support.fake_deployment import FakeDeployment, ended, failure, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES
from tests.support.text_streams import Message
from tests.support.waits import eventually


class Memory:
    """The memory that the gateway sees its process use."""

    def __init__(self) -> None:
        self.used = 0

    def __call__(self, at_least: int) -> int:
        return self.used

    async def run_short(self, deployment: FakeDeployment) -> None:
        """Is short of memory until one call has ended."""
        before = ended_waits(deployment)
        self.used = deployment.gateway.settings.max_heap_bytes + 1
        await eventually(lambda: ended_waits(deployment) != before)
        self.used = 0


def ended_waits(deployment: FakeDeployment) -> float:
    value = deployment.gateway.server.metrics.registry.get_sample_value("tts_ended_waits_total")
    assert value is not None
    return value


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    monkeypatch.setattr(memory_guard, "CHECK_S", 0.01)
    return Memory()


@pytest.mark.parametrize("method", ["text", "reflection"])
async def test_short_memory_ends_calls_that_wait_for_their_callers_only(
    memory: Memory, stream_request: tts_pb2.StreamSynthesizeRequest, method: str
) -> None:
    async with fake_deployment(used_bytes=memory) as deployment:
        deployment.engine.script.pause_at = 3
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
            speaking = tts.StreamSynthesize(stream_request)
            await deployment.engine.script.paused.wait()
            if method == "text":
                waiting = tts.StreamSynthesizeText()
                stream_request.input.text = ""
                await waiting.write(Message(config=stream_request))
            else:
                waiting = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
                await waiting.write(reflection_pb2.ServerReflectionRequest(list_services=""))
                assert (await waiting.read()).HasField("list_services_response")
            await memory.run_short(deployment)
            error = await failure(waiting)
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "MEMORY_SHORT")
            deployment.engine.script.resume.set()
            assert [message.WhichOneof("event") async for message in speaking][-1] == "summary"


@pytest.mark.parametrize("has_spoken", [True, False])
async def test_a_client_retries_a_text_ended_by_short_memory(memory: Memory, has_spoken: bool) -> None:
    """Before the first audio gRPC retries; later the client resumes."""
    goes_on = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        if has_spoken:
            yield "Good morning. How "
        await goes_on.wait()
        yield "are you?"

    async with fake_deployment(used_bytes=memory) as deployment, AsyncClient(deployment.target, timeout_s=60) as client:
        speech = asyncio.create_task(client.stream_synthesize_text(pieces()).read_all())
        if has_spoken:
            assert not await ended(deployment.codec.calls)
        await memory.run_short(deployment)
        goes_on.set()
        heard = await speech
        assert heard.summary.stats.sample_count == 10 * FRAME_SAMPLES * (2 if has_spoken else 1)
        assert ended_waits(deployment) == 1


@pytest.mark.parametrize(("why", "level"), [("the C library is another", "WARNING"), (HOLDS_MODELS, "INFO")])
async def test_unmeasurable_memory_is_logged_once(caplog: pytest.LogCaptureFixture, why: str, level: str) -> None:
    with caplog.at_level("INFO", "csm.gateway"):
        async with fake_deployment(used_bytes=why):
            said = [record for record in caplog.records if "--max-heap-bytes is off" in record.message]
    assert [(record.levelname, why in record.message) for record in said] == [(level, True)]
