"""A full engine: which calls are refused, with which error, and which calls keep their place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest
from services.common.rpc import status
from services.common.watchdog import Watchdog
from services.engine import servicer
from services.engine.reading_order import ReadingOrder
from services.engine.servicer import _PROGRESS_S
from services.engine.settings import EngineSettings
from services.engine.stage import EngineStage, start_engine
from tests.services.engine.test_engine_service import WRONG
from tests.support.engine_stage import (
    Stub,
    codes_of,
    collect,
    generate_request,
    long_request,
    wait_for_load,
    wait_until_idle,
)
from tests.support.waits import eventually, read_event

UNBLOCKED = "Quick."  # the text that a BlockedTokenizer does not block


class BlockedTokenizer:
    """Blocks the tokenizer, for every text but UNBLOCKED, while `may_go_on` is clear."""

    def __init__(self) -> None:
        self.started: list[str] = []  # texts whose tokenization has begun
        self.may_go_on = threading.Event()
        self._encode = TextTokenizer.encode

    def encode(self, tokenizer: TextTokenizer, speaker: int, text: str) -> list[int]:
        self.started.append(text)
        if text != UNBLOCKED:
            self.may_go_on.wait(60)
        return self._encode(tokenizer, speaker, text)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockedTokenizer]:
    blocked = BlockedTokenizer()
    monkeypatch.setattr(TextTokenizer, "encode", lambda tokenizer, *of_text: blocked.encode(tokenizer, *of_text))
    yield blocked
    blocked.may_go_on.set()


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[GenerationRequest]:
    """The requests that have come for their turn to be read."""
    acquire, requests = ReadingOrder.acquire, list[GenerationRequest]()

    async def recorded(order: ReadingOrder, request: GenerationRequest) -> None:
        requests.append(request)
        await acquire(order, request)

    monkeypatch.setattr(ReadingOrder, "acquire", recorded)
    return requests


async def test_full_engine_is_unavailable_with_retry_info(
    stage: EngineStage, stub: Stub, loads: list[tuple[int, int]]
) -> None:
    calls = [stub.Generate(long_request()) for _ in range(3)]
    await wait_for_load(stage, 2, 1)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(stub, generate_request())
    error = status.from_rpc_error(raised.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    assert error.retry_delay_s and "2 sequences run and 1 wait" in error.message
    assert loads == [(3, 2)]  # two run and one waits, of two slots
    for call in calls:
        call.cancel()


async def test_a_queued_request_is_not_counted_twice(
    stage: EngineStage, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even before the event loop hears that the engine has it. So there is room for three: two slots and a queue of
    one."""
    add, added = stage.async_engine.thread.add, list[tuple[Future[Sequence], Sequence]]()

    def add_and_report_later(*arguments: Any) -> Future[Sequence]:
        sequence, report = add(*arguments).result(60), Future[Sequence]()
        added.append((report, sequence))
        return report

    monkeypatch.setattr(stage.async_engine.thread, "add", add_and_report_later)
    calls = [stub.Generate(long_request()) for _ in range(3)]
    await eventually(lambda: len(added) == 3)
    for report, sequence in added:
        report.set_result(sequence)
    for call in calls:
        call.cancel()
    await wait_until_idle(stage)


async def test_a_call_that_is_cancelled_as_it_is_queued_frees_its_slot(
    stage: EngineStage, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, added, aborted = stage.async_engine.thread, list[Sequence](), list[Sequence]()
    add, abort = thread.add, thread.abort

    def add_and_never_report(*arguments: Any) -> Future[Sequence]:
        added.append(add(*arguments).result(60))
        return Future()

    def recorded_abort(sequence: Sequence) -> None:
        aborted.append(sequence)
        abort(sequence)

    monkeypatch.setattr(thread, "add", add_and_never_report)
    monkeypatch.setattr(thread, "abort", recorded_abort)
    call = stub.Generate(long_request())
    await eventually(lambda: bool(added))
    call.cancel()
    await eventually(lambda: aborted == added)
    await wait_until_idle(stage)


async def test_a_full_engine_reads_no_text(
    stage: EngineStage, stub: Stub, blocked: BlockedTokenizer, loads: list[tuple[int, int]]
) -> None:
    blocked.may_go_on.set()
    calls = [stub.Generate(long_request()) for _ in range(3)]
    await wait_for_load(stage, 2, 1)
    blocked.started.clear()
    too_long = [engine_pb2.Segment(text="x" * 600)]
    error = await _refusal(stub, segments=too_long)
    assert (error.reason, error.message) == ("QUEUE_FULL", "2 sequences run and 1 wait; at most 1 may wait")
    assert not blocked.started and loads == [(3, 2)]
    for call in calls:
        call.cancel()
    await wait_until_idle(stage)
    for _ in range(4):  # one more than the engine has room for
        assert (await _refusal(stub, segments=too_long)).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_texts_that_are_being_read_have_places_of_the_queue(
    settings: EngineSettings, blocked: BlockedTokenizer
) -> None:
    async with _serving_blocked(settings, blocked, max_waiting=4) as stub:
        # One more than the two slots and the four places of the queue.
        calls = {asyncio.create_task(collect(stub, generate_request())) for _ in range(7)}
        (refused,), others = await asyncio.wait(calls, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(grpc.aio.AioRpcError, match="0 sequences run and 6 wait; at most 4 may wait"):
            refused.result()
        with_listener = {asyncio.create_task(collect(stub, generate_request(has_listener=True))) for _ in range(4)}
        assert not (await asyncio.wait(with_listener, timeout=0.2))[0], (
            "calls without a listener take none of their places"
        )
        assert len(blocked.started) == 1, "texts are read one at a time"
        blocked.may_go_on.set()
        assert [len(codes_of(responses)) for responses in await asyncio.gather(*others, *with_listener)] == [6] * 10


async def test_a_call_whose_text_is_being_read_keeps_its_place_when_listeners_overtake_it(
    settings: EngineSettings, blocked: BlockedTokenizer, came: list[GenerationRequest]
) -> None:
    unblocked = [engine_pb2.Segment(text=UNBLOCKED)]
    # Live calls keep their slots for long.
    async with _serving_blocked(settings, blocked, max_playout_lead_seconds=1.0) as stub:
        running = [stub.Generate(generate_request(400, segments=unblocked, live=True)) for _ in range(2)]
        for call in running:
            assert (await read_event(call)).HasField("started")
        came.clear()
        calls = list[asyncio.Task[Any]]()
        for text, has_listener in (("heard", True), ("accepted", False), ("heard later", True)):
            calls.append(asyncio.create_task(collect(stub, _of_text(text, has_listener=has_listener))))
            await eventually(lambda: len(came) == len(calls))
        await eventually(lambda: blocked.started[2:] == ["heard"])
        blocked.may_go_on.set()
        while (load := await stub.GetLoad(engine_pb2.GetLoadRequest())).waiting_sequence_count < 3:
            assert not any(call.done() for call in calls)
        assert load.running_sequence_count == 2, (
            "so they wait, and the queue has one place for calls without a listener"
        )
        assert blocked.started[2:] == ["heard", "heard later", "accepted"]
        for call in running:
            call.cancel()
        assert [len(codes_of(responses)) for responses in await asyncio.gather(*calls)] == [6] * 3


async def test_the_text_of_a_cancelled_call_counts_until_it_has_been_read(
    settings: EngineSettings, blocked: BlockedTokenizer
) -> None:
    """A thread cannot be cancelled. Otherwise a caller that cancels and calls again could use any number of threads."""
    async with _serving_blocked(settings, blocked, max_waiting=8) as stub:
        for _ in range(3):
            call = stub.Generate(generate_request())
            await eventually(lambda: bool(blocked.started))
            await asyncio.sleep(0.1)
            call.cancel()
        last = asyncio.create_task(collect(stub, generate_request()))
        assert not (await asyncio.wait({last}, timeout=0.2))[0] and len(blocked.started) == 1
        blocked.may_go_on.set()
        assert len(codes_of(await last)) == 6


async def test_a_short_text_is_read_before_long_ones_that_came_first(
    settings: EngineSettings, blocked: BlockedTokenizer, came: list[GenerationRequest]
) -> None:
    calls = list[asyncio.Task[Any]]()
    async with _serving_blocked(settings, blocked, max_waiting=8) as stub:
        came.clear()
        for text in ("a first one", *(f"{index} " + "long " * 20 for index in range(3)), "short"):
            calls.append(asyncio.create_task(collect(stub, _of_text(text))))
            await eventually(lambda: len(came) == len(calls))
        await eventually(lambda: bool(blocked.started))
        blocked.may_go_on.set()
        assert [len(codes_of(responses)) for responses in await asyncio.gather(*calls)] == [6] * 5
        assert [text.split()[0] for text in blocked.started] == ["a", "short", "0", "1", "2"]


async def test_calls_report_progress_while_their_texts_wait_to_be_read(
    settings: EngineSettings, blocked: BlockedTokenizer
) -> None:
    """Without it, a gateway takes the engine for lost after three seconds and sends the text to another one."""
    async with _serving_blocked(settings, blocked, max_waiting=8) as stub:
        calls = [stub.Generate(generate_request()) for _ in range(3)]
        for call in calls:
            assert (await call.read()).HasField("progress")
        assert _PROGRESS_S < 3
        assert len(blocked.started) == 1
        calls.pop().cancel()
        blocked.may_go_on.set()
        for call in calls:
            responses = list[engine_pb2.GenerateResponse]()
            while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                responses.append(response)
            assert len(codes_of(responses)) == 6


async def test_calls_report_no_progress_while_the_engines_thread_hangs(
    settings: EngineSettings, blocked: BlockedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the gateway would not go to another engine."""
    is_alive = iter([False, False])
    async with _serving_blocked(settings, blocked) as stub:
        monkeypatch.setattr(servicer, "_PROGRESS_S", 0.01)
        monkeypatch.setattr(Watchdog, "worker_is_alive", property(lambda watchdog: next(is_alive, True)))
        call = stub.Generate(generate_request())
        assert (await call.read()).HasField("progress") and not list(is_alive)
        call.cancel()
        blocked.may_go_on.set()


async def test_calls_whose_texts_wait_end_when_the_engine_fails(
    settings: EngineSettings, blocked: BlockedTokenizer
) -> None:
    """So other engines can take the calls, and no text is read in vain."""
    blocked.may_go_on.set()
    stage = await start_engine(settings.model_copy(update={"drain_seconds": 0.0, "max_waiting": 8}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        stub = engine_pb2_grpc.EngineServiceStub(channel)
        blocked.may_go_on.clear()
        blocked.started.clear()
        waiting = [asyncio.create_task(_refusal(stub)) for _ in range(3)]
        await eventually(lambda: len(stage.async_engine._pending[False]) == 3 and bool(blocked.started))
        stage.async_engine.thread.worker.submit(_lose_the_device)
        await eventually(lambda: sum(task.done() for task in waiting) == 2)
        ended, being_read = ([task for task in waiting if task.done() is done] for done in (True, False))
        assert [task.result().code for task in ended] == [grpc.StatusCode.UNAVAILABLE] * 2
        assert (await _refusal(stub)).code is grpc.StatusCode.UNAVAILABLE
        assert len(blocked.started) == 1
        blocked.may_go_on.set()  # a thread cannot be cancelled
        assert (await being_read.pop()).code is grpc.StatusCode.UNAVAILABLE
    await stage.stop()
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("watchdog")])


def _lose_the_device() -> None:
    raise RuntimeError("device lost")


async def test_a_wrong_field_is_named_although_the_engine_is_full(settings: EngineSettings) -> None:
    async with _serving(settings, max_waiting=0, slots=1, max_playout_lead_seconds=1.0) as stub:
        running = stub.Generate(generate_request(400, live=True))
        assert (await read_event(running)).HasField("started")
        assert (await _refusal(stub)).reason == "QUEUE_FULL"
        for field, wrong in WRONG.items():
            if field != "segments[0].text":  # its length in tokens is not known before it has been read
                error = await _refusal(stub, **wrong)
                assert [violation.field for violation in error.field_violations] == [field], error
        running.cancel()


def _of_text(text: str, **changes: Any) -> engine_pb2.GenerateRequest:
    return generate_request(segments=[engine_pb2.Segment(text=text)], **changes)


async def _refusal(stub: Stub, **fields: Any) -> status.StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(stub, generate_request(**fields))
    return status.from_rpc_error(raised.value)


@asynccontextmanager
async def _serving(settings: EngineSettings, **changes: Any) -> AsyncIterator[Stub]:
    stage = await start_engine(settings.model_copy(update={"drain_seconds": 0.0, **changes}))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            yield engine_pb2_grpc.EngineServiceStub(channel)
    finally:
        await stage.stop()


@asynccontextmanager
async def _serving_blocked(settings: EngineSettings, blocked: BlockedTokenizer, **changes: Any) -> AsyncIterator[Stub]:
    """A stage whose tokenizer is blocked from when it is ready."""
    blocked.may_go_on.set()
    async with _serving(settings, **changes) as stub:
        blocked.may_go_on.clear()
        blocked.started.clear()
        yield stub
