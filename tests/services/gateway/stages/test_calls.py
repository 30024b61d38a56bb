"""Calls to a stage: short ones are retried when the replica is lost or silent, and only then; streams time out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2
from grpc.aio import AioRpcError, Metadata
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.stages.backends import GrpcEngine
from services.gateway.stages.calls import MOST_LOSSES, messages
from services.gateway.stages.errors import StageError, is_loss
from services.gateway.stages.known_replicas import KnownReplicas
from services.gateway.stages.silence import TICKS, SilenceWatch

ANSWER = engine_pb2.GetModelInfoResponse(model_version="fake/1")
PROMPT = engine_pb2.GetVoicePromptResponse(text="Hello.")


def failure(code: grpc.StatusCode, message: str) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), message, "")


LOST = failure(grpc.StatusCode.UNAVAILABLE, "Stream removed (ping timeout)")
SILENT = failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
REFUSED = failure(grpc.StatusCode.FAILED_PRECONDITION, "no")


class Call:
    """A call that ends with an answer or an error."""

    def __init__(self, end: Any) -> None:
        self._end = end

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    async def trailing_metadata(self) -> Metadata:
        return Metadata()


class Channel:
    """A channel whose calls end as listed, one after the other; further calls end like the last one."""

    renewed_at_s = float("-inf")

    def __init__(self, ends: Sequence[Any]) -> None:
        self._ends = ends
        self.num_calls = self.num_renewals = 0
        self.timeouts_s = list[float]()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Channel]:
        yield self

    def renew(self, stub: Channel) -> None:
        self.num_renewals += 1

    def GetModelInfo(self, request: Any, **options: Any) -> Call:
        end = self._ends[min(self.num_calls, len(self._ends) - 1)]
        self.num_calls += 1
        self.timeouts_s.append(options["timeout"])
        return Call(end)

    GetVoicePrompt = GetModelInfo


def engine_behind(channel: Any) -> GrpcEngine:
    return GrpcEngine(channel, channel, metrics=GatewayMetrics(CollectorRegistry()), max_full=3, silence_s=3.0)


async def test_a_call_that_loses_its_replica_is_retried() -> None:
    channel = Channel([LOST, LOST, ANSWER])
    assert await engine_behind(channel).model_info(20.0) == ANSWER
    assert (channel.num_calls, channel.num_renewals) == (3, 0)


async def test_a_call_for_the_prompt_of_a_voice_is_retried() -> None:
    channel = Channel([LOST, PROMPT])
    assert await engine_behind(channel).voice_prompt("ada", 20.0) == PROMPT
    assert channel.num_calls == 2


async def test_a_call_to_a_silent_replica_is_retried_over_new_connections() -> None:
    channel = Channel([SILENT, ANSWER])
    assert await engine_behind(channel).model_info(20.0) == ANSWER
    assert (channel.num_calls, channel.num_renewals) == (2, 1)
    assert channel.timeouts_s == [3.0, 3.0], "the longest silence, and not the call's own time"


async def test_a_call_whose_time_is_over_is_not_retried() -> None:
    channel = Channel([SILENT, ANSWER])
    with pytest.raises(StageError, match="Deadline Exceeded"):
        await engine_behind(channel).model_info(2.0)
    assert (channel.num_calls, channel.num_renewals) == (1, 0)


@pytest.mark.parametrize(
    ("end", "reason", "num_calls"),
    [(LOST, "ENGINE_UNREACHABLE", 1 + MOST_LOSSES), (REFUSED, "FAILED_PRECONDITION", 1)],
    ids=["lost", "refused"],
)
async def test_retries_of_a_call_are_bounded(end: AioRpcError, reason: str, num_calls: int) -> None:
    channel = Channel([end])
    with pytest.raises(StageError) as raised:
        await engine_behind(channel).model_info(20.0)
    assert (raised.value.reason, channel.num_calls) == (reason, num_calls)


class StreamCall:
    """A call whose messages come when the test says so."""

    def __init__(self) -> None:
        self.messages = asyncio.Queue[Any]()
        self.reading: asyncio.Task[Any] | None = None
        self.is_cancelled = False

    async def initial_metadata(self) -> Metadata:
        return Metadata()

    async def read(self) -> Any:
        self.reading = asyncio.create_task(self.messages.get())
        return await self.reading

    def cancel(self) -> None:
        assert self.reading is not None
        self.reading.cancel()
        self.is_cancelled = True


async def test_each_wait_may_be_as_long_as_the_limit_and_time_between_waits_does_not_count() -> None:
    call = StreamCall()
    watch = SilenceWatch(call, 0)
    for ticks in (TICKS, TICKS, TICKS + 1):
        reading = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the read itself begins
        for _ in range(ticks):
            watch._tick()
        if ticks > TICKS:
            break
        call.messages.put_nowait("a message")
        assert await reading == "a message"
        for _ in range(2 * TICKS):
            watch._tick()
        assert not watch.silent
    assert watch.silent
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_reader_that_is_cancelled_cancels_no_read() -> None:
    """grpc.aio would never free the message that comes at that moment."""
    call = StreamCall()
    reading = asyncio.create_task(anext(SilenceWatch(call, 0)))
    while call.reading is None:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not call.reading.done()
    call.cancel()


async def test_later_calls_avoid_a_silent_replica_whose_watch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed, closed = list[str](), list[bool]()
    monkeypatch.setattr(SilenceWatch, "close", lambda watch: closed.append(watch.silent))
    channel: Any = SimpleNamespace(call=lambda: nullcontext("stub"), renew=renewed.append)
    with pytest.raises(StageError) as raised:
        await anext(messages("ENGINE", channel, KnownReplicas(), lambda stub: StreamCall(), 0.02))
    assert is_loss(raised.value) and renewed == ["stub"] and closed == [True]


async def test_a_stream_that_is_left_ends_its_call() -> None:
    call, started = StreamCall(), engine_pb2.GenerateResponse(started=engine_pb2.GenerateStarted())
    call.messages.put_nowait(started)
    channel: Any = SimpleNamespace(call=lambda: nullcontext("stub"))
    stream = messages("ENGINE", channel, KnownReplicas(), lambda stub: call, 0)
    assert await anext(stream) is started and not call.is_cancelled
    await stream.aclose()
    assert call.is_cancelled
