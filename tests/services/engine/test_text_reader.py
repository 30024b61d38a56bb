"""A thread that hangs while it reads a text: whom it costs what, and that the stage says so and can stop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csm_engine.model.tokenizer import TextTokenizer
from services.common.rpc import status
from services.common.rpc.server import LIVENESS
from services.common.watchdog import BEAT_S, Watchdog
from services.engine.settings import EngineSettings
from services.engine.stage import SERVICE, EngineStage, start_engine
from tests.support.engine_stage import Stub, codes_of, collect, generate_request
from tests.support.waits import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HANGS = [engine_pb2.Segment(text="This hangs.")]


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the thread that reads the text of HANGS hangs."""
    go_on, encode = threading.Event(), TextTokenizer.encode

    def hang(tokenizer: TextTokenizer, speaker: int, text: str) -> list[int]:
        if text == HANGS[0].text:
            go_on.wait(100)
        return encode(tokenizer, speaker, text)

    monkeypatch.setattr(TextTokenizer, "encode", hang)
    yield go_on
    go_on.set()


@pytest.fixture
async def stage(settings: EngineSettings, go_on: threading.Event) -> AsyncIterator[EngineStage]:
    changes = {"drain_seconds": 0.0, "reading_stall_seconds": 1.0, "max_waiting": 8}
    stage = await start_engine(settings.model_copy(update=changes))
    yield stage
    go_on.set()
    await stage.stop()


async def error_of(stub: Stub, **changes: Any) -> status.StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(stub, generate_request(**changes))
    return status.from_rpc_error(raised.value)


async def wait_until(stage: EngineStage, service: str, wanted: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.health_port}") as channel, asyncio.timeout(30):
        async for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service)):
            if answer.status == wanted:
                return


async def test_only_the_request_whose_texts_hang_fails_for_good(
    stage: EngineStage, stub: Stub, go_on: threading.Event
) -> None:
    running = aiter(stub.Generate(generate_request(100)))
    while not (await anext(running)).HasField("started"):
        pass
    hanging = asyncio.create_task(error_of(stub, segments=HANGS))
    await eventually(lambda: bool(stage.async_engine._pending[False]))
    waiting = asyncio.create_task(error_of(stub))
    of_hanging, of_waiting = await asyncio.wait_for(asyncio.gather(hanging, waiting), 30)
    assert (of_hanging.code, of_hanging.reason) == (grpc.StatusCode.INTERNAL, "READING_STALLED")
    assert "could not read these texts within 1 s" in of_hanging.message
    for error in (of_waiting, await error_of(stub)):
        assert error.code is grpc.StatusCode.UNAVAILABLE, "a gateway sends it to another engine"
        assert "the thread that reads texts hangs" in error.message
    for service in (LIVENESS, SERVICE):
        await wait_until(stage, service, NOT_SERVING)
    assert len(codes_of([response async for response in running])) == 100, "a running stream is not disturbed"
    go_on.set()
    for service in (LIVENESS, SERVICE):
        await wait_until(stage, service, SERVING)
    for segments in (HANGS, generate_request().segments):
        assert len(codes_of(await collect(stub, generate_request(segments=segments)))) == 6


async def test_a_hang_is_reported_although_its_caller_has_left(stage: EngineStage, stub: Stub) -> None:
    call = stub.Generate(generate_request(segments=HANGS))
    await eventually(lambda: bool(stage.async_engine._pending[False]))
    call.cancel()
    for service in (LIVENESS, SERVICE):
        await wait_until(stage, service, NOT_SERVING)


async def test_many_slow_texts_one_after_another_are_no_hang(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read for longer than a beat, and all together for longer than the limit."""
    encode, miss, missed = TextTokenizer.encode, Watchdog._miss, threading.Semaphore(0)

    def count(watchdog: Watchdog) -> None:
        miss(watchdog)
        if watchdog._worker.name == "text reader":
            missed.release()

    def slow(tokenizer: TextTokenizer, speaker: int, text: str) -> list[int]:
        while missed.acquire(blocking=False):
            pass
        assert missed.acquire(timeout=60), "no beat was missed"
        return encode(tokenizer, speaker, text)

    monkeypatch.setattr(Watchdog, "_miss", count)
    stage = await start_engine(settings.model_copy(update={"reading_stall_seconds": 6 * BEAT_S, "max_waiting": 8}))
    monkeypatch.setattr(TextTokenizer, "encode", slow)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        stub = engine_pb2_grpc.EngineServiceStub(channel)
        answers = await asyncio.gather(*(collect(stub, generate_request()) for _ in range(8)))
    await stage.stop()
    assert [len(codes_of(answer)) for answer in answers] == [6] * 8


_STOPS = """
import asyncio, threading
from csm_bundle.runtime import worker_thread
from csm_engine.types import GenerationRequest, Segment
from services.common.background import Background
from services.engine.text_reader import TextReader

worker_thread.STOP_S = 0.2

async def main():
    reader = TextReader(on_failure=print, on_stall=lambda *_: None, stall_s=0.5, background=Background())
    try:
        await reader.read(GenerationRequest("hangs", [Segment(0, "x")], 1), threading.Event().wait)
    except Exception as error:
        print(type(error).__name__)
    await reader.stop()

asyncio.run(main())
"""


async def test_a_process_whose_reader_hangs_ends() -> None:
    """Threads of asyncio's own pool would be waited for without end."""
    command = [sys.executable, "-c", _STOPS]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "ReadingStalledError\n"
