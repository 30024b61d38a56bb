"""The end of a call whose caller still writes: what is still read, for how long, and the cost of a cancelled read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from services.common.rpc.incoming import lingering as module
from services.common.rpc.incoming.lingering import IncomingMessages, lingering, set_caller_waits
from services.common.rpc.messages import Received
from services.common.rpc.status import StatusError


async def numbers(count: int, pause_s: float = 0.0) -> AsyncIterator[Received]:
    for number in range(count):
        await asyncio.sleep(pause_s)
        yield Received(number, num_bytes=10 * number)


async def silence() -> AsyncIterator[Received]:
    await asyncio.sleep(3600)
    yield Received(0, 0)


class Context:
    """The context of a call with these requests."""

    def __init__(self, requests: AsyncIterator[Received]) -> None:
        self._requests = requests

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"

    async def read(self) -> object:
        return await anext(self._requests, grpc.aio.EOF)  # type: ignore[attr-defined]  # the stubs forget it


def no_drain() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


class Registrations(asyncio.Future[None]):
    """A drain that counts how often a call registers or leaves. To leave is a search among all that are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add_done_callback(self, *arguments: Any, **options: Any) -> None:
        self.changes += 1
        super().add_done_callback(*arguments, **options)

    def remove_done_callback(self, callback: Any) -> int:
        self.changes += 1
        return super().remove_done_callback(callback)


async def test_a_drain_ends_the_wait_for_a_caller_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_QUIET_S", 0.05)
    drain = no_drain()
    messages = IncomingMessages(Context(silence()).read, drain)
    reading = asyncio.ensure_future(anext(messages))
    assert not (await asyncio.wait({reading}, timeout=0.2))[0]
    drain.set_result(None)
    with pytest.raises(StatusError, match="has sent nothing for 0.05 s") as raised:
        await reading
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    messages.close()


async def test_a_drain_lets_a_sending_caller_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_QUIET_S", 30)
    drain = no_drain()
    drain.set_result(None)
    assert [number async for number in IncomingMessages(Context(numbers(3, 0.05)).read, drain)] == [0, 1, 2]


async def test_a_message_costs_no_search_among_the_calls_that_wait_for_the_drain() -> None:
    drain = Registrations()
    messages = IncomingMessages(Context(numbers(20)).read, drain)
    assert [number async for number in messages] == list(range(20))
    assert drain.changes == 1
    messages.close()
    assert drain.changes == 2


async def test_a_cancelled_read_loses_no_message() -> None:
    come = asyncio.Event()

    async def late() -> AsyncIterator[Received]:
        await come.wait()
        async for number in numbers(3):
            yield number

    messages = IncomingMessages(Context(late()).read, no_drain())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(messages)
    come.set()
    assert [(number, messages.num_bytes) async for number in messages] == [(0, 0), (1, 10), (2, 20)]
    assert [number async for number in messages] == []


async def test_a_message_that_came_between_two_reads_does_not_end_the_wait_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DRAIN_QUIET_S", 0)
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    left = iter((first, second))
    messages = IncomingMessages(lambda: next(left), no_drain())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(messages)

    async def two() -> list[int]:
        first.set_result(
            Received(0, 0)
        )  # the read is done at once, and its callbacks run in the next round of the loop
        return [await anext(messages), await anext(messages)]

    reading = asyncio.ensure_future(two())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not reading.done()
    second.set_result(Received(1, 10))
    assert await reading == [0, 1]


async def test_messages_in_flight_are_read_before_the_failure_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIET_S", "LINGER_S"):
        monkeypatch.setattr(module, name, 30)
    read: list[int] = []

    async def requests() -> AsyncIterator[Received]:
        async for request in numbers(20, 0.005):
            read.append(request.message)
            yield request

    async def fail(incoming: AsyncIterator[int], context: object) -> None:
        assert await anext(incoming) == 0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await lingering(fail, no_drain())(requests(), Context(requests()))
    assert read == list(range(20))


@pytest.mark.parametrize("waits", [True, False])
async def test_a_caller_that_has_finished_writing_is_not_waited_for(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIET_S", "LINGER_S"):
        monkeypatch.setattr(module, name, 30)

    async def fail(incoming: AsyncIterator[int], context: object) -> None:
        await anext(incoming)
        set_caller_waits(incoming, waits)
        raise ValueError("no")

    requests = numbers(3)
    with pytest.raises(ValueError, match="no"):
        await lingering(fail, no_drain())(requests, Context(requests))
    assert [number.message async for number in requests] == ([1, 2] if waits else [])


async def test_the_caller_of_one_request_is_not_waited_for() -> None:
    async def answer(incoming: AsyncIterator[int], context: object) -> int:
        return await anext(incoming)

    requests = numbers(10**6, 0.005)
    assert await lingering(answer, no_drain(), one_request=True)(requests, Context(requests)) == 0
    assert (await anext(requests)).message == 1, "nothing else was read"


@pytest.mark.parametrize("requests", [silence, lambda: numbers(10**6, 0.005)], ids=["quiet", "never done"])
async def test_the_end_waits_for_a_moment_only(
    requests: Callable[[], AsyncIterator[Received]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.2)

    async def answer(incoming: AsyncIterator[int], context: object) -> str:
        return "done"

    began_s = time.monotonic()
    async with asyncio.timeout(30):
        assert await lingering(answer, no_drain())(requests(), Context(requests())) == "done"
    assert time.monotonic() - began_s >= 0.05
