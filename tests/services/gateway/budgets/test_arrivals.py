"""Requests that are being received: small ones at once, large ones in places; which wait, give way or are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.server import UNREAD_BYTES
from services.common.rpc.status import StatusError
from services.gateway.budgets import arrivals as module
from services.gateway.budgets.arrivals import SLOTS, Arrivals
from services.gateway.synthesis.deadline import Deadline
from tests.support.waits import eventually

SMALL, LARGE = rvq_pb2.CodeFrames(codes=b"small"), rvq_pb2.CodeFrames(codes=bytes(UNREAD_BYTES + 1))


class Request:
    """The request stream of a call, whose request comes when the test says so. `is_read`: whether it is awaited."""

    def __init__(self, message: rvq_pb2.CodeFrames | None = SMALL, *, comes: bool = True) -> None:
        self.message, self.is_read, self.comes, self.num_bytes = message, False, asyncio.Event(), 0
        if comes:
            self.comes.set()

    async def __anext__(self) -> rvq_pb2.CodeFrames:
        self.is_read = True
        await self.comes.wait()
        if self.message is None:
            raise StopAsyncIteration
        self.num_bytes = self.message.ByteSize()
        return self.message


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    for name in ("SLICE_S", "SLOW_AFTER_S"):
        monkeypatch.setattr(module, name, 0.01)


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline(time.monotonic() + seconds)


@asynccontextmanager
async def held(arrivals: Arrivals, count: int) -> AsyncIterator[None]:
    """That many large requests, which have been received."""
    stop = asyncio.Event()

    async def hold() -> None:
        async with receive(arrivals, Request(LARGE), soon()):
            await stop.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    await eventually(lambda: arrivals.num_large == count)
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def receive(arrivals: Arrivals, request: Any, deadline: Deadline, announced_bytes: int = 0) -> Any:
    return arrivals.receive(request, deadline, announced_bytes)


async def received(arrivals: Arrivals, request: Request, announced_bytes: int = 0, deadline_s: float = 30.0) -> Any:
    async with receive(arrivals, request, soon(deadline_s), announced_bytes) as message:
        return message


async def refused(call: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await call
    return caught.value


async def test_small_requests_pass_while_all_places_are_taken() -> None:
    arrivals = Arrivals(2, 8)
    async with held(arrivals, 2):
        for _ in range(20):
            assert await received(arrivals, Request()) == SMALL
    assert arrivals.num_large == 0


async def test_an_announced_request_waits_unread_and_an_unannounced_one_is_refused() -> None:
    refusals = list[int]()
    arrivals = Arrivals(1, 1, lambda: refusals.append(1))
    announced = Request(LARGE)
    async with held(arrivals, 1):
        waiting = asyncio.create_task(received(arrivals, announced, LARGE.ByteSize()))
        error = await refused(received(arrivals, Request(LARGE)))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RECORDINGS_BUSY")
        assert error.retry_delay_s is not None
        error = await refused(received(arrivals, Request(LARGE), LARGE.ByteSize()))
        assert "at most 1 may wait" in error.message
        assert not announced.is_read and len(refusals) == 2
    assert await waiting == LARGE
    assert arrivals.num_large == 0


class Malformed(Request):
    """Large, and no message of the method."""

    async def __anext__(self) -> rvq_pb2.CodeFrames:
        await super().__anext__()
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED", "It cannot be read.")


async def test_a_large_request_that_cannot_be_read_needs_no_place() -> None:
    arrivals = Arrivals(1, 1)
    async with held(arrivals, 1):
        assert (await refused(received(arrivals, Malformed(LARGE)))).reason == "MESSAGE_MALFORMED"


async def test_places_are_free_again_however_a_call_ends(quick: None) -> None:
    arrivals = Arrivals(1, 0)
    with pytest.raises(ValueError, match="its handler"):
        async with receive(arrivals, Request(LARGE), soon()):
            raise ValueError("its handler fails")
    late = Request(comes=False)
    assert (await refused(received(arrivals, late, deadline_s=0.05))).code is grpc.StatusCode.DEADLINE_EXCEEDED
    leaving = asyncio.create_task(received(arrivals, Request(comes=False)))
    await eventually(lambda: arrivals.num_large)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert (await refused(received(arrivals, Request(None)))).code is grpc.StatusCode.INVALID_ARGUMENT
    assert arrivals.num_large == 0
    assert await received(arrivals, Request(LARGE)) == LARGE


async def test_the_newest_request_is_read_first_and_slow_ones_lose_their_place(quick: None) -> None:
    """All places are taken, and requests that do not come hold the slots."""
    arrivals = Arrivals(1, 100)
    async with held(arrivals, 1):
        absent = [asyncio.create_task(received(arrivals, Request(comes=False))) for _ in range(SLOTS)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in absent), "nobody wants their slots"
        assert await received(arrivals, Request()) == SMALL
        await eventually(lambda: any(task.done() for task in absent))
        for task in absent:
            task.cancel()
        errors = await asyncio.gather(*absent, return_exceptions=True)
        assert any(isinstance(error, StatusError) and error.reason == "RECORDINGS_BUSY" for error in errors)


async def test_a_request_without_a_place_in_time_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """All places are taken. Requests that are being read stay until another one needs their slots."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    arrivals = Arrivals(1, 1)
    async with held(arrivals, 1):
        absent = [Request(comes=False) for _ in range(SLOTS)]
        reading = [asyncio.create_task(received(arrivals, request)) for request in absent]
        await eventually(lambda: all(request.is_read for request in absent))
        monkeypatch.setattr(module, "SLICE_S", 30.0)
        await asyncio.sleep(0.1)
        waiting = Request()
        error = await refused(received(arrivals, waiting))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RECORDINGS_BUSY")
        assert "did not come in time" in error.message and not waiting.is_read
        for request in absent:
            request.comes.set()
        assert await asyncio.gather(*reading) == [SMALL] * SLOTS


async def test_a_slow_request_gives_its_place_to_one_that_waits(quick: None) -> None:
    arrivals = Arrivals(1, 8)
    slow = asyncio.create_task(received(arrivals, Request(LARGE, comes=False), LARGE.ByteSize()))
    await asyncio.sleep(0.05)
    assert not slow.done(), "nobody wants its place"
    assert await received(arrivals, Request(LARGE), LARGE.ByteSize()) == LARGE
    assert "arrives too slowly" in (await refused(slow)).message


async def test_a_slow_request_gives_its_place_to_others_once_one_was_refused(quick: None) -> None:
    """Requests that are not announced do not wait for a place, so none of them would ever get it."""
    arrivals = Arrivals(1, 8)
    slow = asyncio.create_task(received(arrivals, Request(LARGE, comes=False), LARGE.ByteSize()))
    await eventually(lambda: arrivals.num_large)
    assert "no place is free" in (await refused(received(arrivals, Request(LARGE)))).message
    assert "arrives too slowly" in (await refused(slow)).message
    assert await received(arrivals, Request(LARGE)) == LARGE
