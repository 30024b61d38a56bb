"""Which calls are ended when memory runs short, and which are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import grpc
import pytest

from services.common.rpc.incoming import lingering
from services.common.rpc.incoming import memory_guard as module
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.incoming.memory_guard import MemoryGuard
from services.common.rpc.messages import Received
from services.common.rpc.status import StatusError
from tests.support.waits import eventually

LIMIT, MESSAGE = 1000, 100


class Process:
    """A process with the memory use that the test sets, and its pending reads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.used, self.ends, self.reliefs = 0, 0, 0
        self.guard = MemoryGuard(limit, MESSAGE, lambda: self.used, self._on_end, self._on_relief)
        self.waits: dict[str, asyncio.Future[None]] = {}
        self.held = ExitStack()

    def wait(self, *names: str) -> None:
        """Adds reads, named by their caller and a number."""
        for name in names:
            self.waits[name] = self.held.enter_context(self.guard.waiting(name[0]))

    def check(self, used: int) -> str:
        """The names of the reads that have ended so far."""
        self.used = used
        self.guard.check()
        return " ".join(name for name, wait in self.waits.items() if wait.done())

    def _on_end(self) -> None:
        self.ends += 1

    def _on_relief(self) -> None:
        self.reliefs += 1


async def test_reads_end_until_the_excess_memory_is_freed() -> None:
    process = Process()
    process.wait("a1", "a2", "a3", "a4", "a5")
    assert process.check(LIMIT) == ""
    assert process.check(LIMIT + 1) == "a1"
    assert process.check(LIMIT + 2 * MESSAGE) == "a1 a2 a3"
    assert process.check(LIMIT + 9 * MESSAGE) == "a1 a2 a3 a4 a5"
    assert process.check(LIMIT + 9 * MESSAGE) == "a1 a2 a3 a4 a5" and process.ends == 5


async def test_reads_of_the_caller_with_most_reads_end_first() -> None:
    process = Process()
    process.wait("a1", "b1", "b2", "b3", "c1")
    assert process.check(LIMIT + 2 * MESSAGE) == "b1 b2"
    assert process.check(LIMIT + 1) == "a1 b1 b2"  # each has one, so the oldest caller's goes first


async def test_relief_is_logged_once_even_if_no_read_waits() -> None:
    process = Process()
    process.wait("a1")
    assert process.check(LIMIT + 1) == "a1"
    process.held.close()
    assert process.reliefs == 0
    process.check(LIMIT)
    process.check(LIMIT)
    assert process.reliefs == 1


async def test_without_reads_memory_is_not_measured() -> None:
    process = Process()
    process.guard = MemoryGuard(LIMIT, MESSAGE, lambda: pytest.fail("looked at"))
    process.guard.check()
    process.wait("a1")
    process.held.close()
    process.guard.check()


async def test_without_a_limit_nothing_is_watched() -> None:
    async with asyncio.timeout(5):
        await Process(limit=0).guard.run()


async def test_a_read_that_ends_is_unavailable_and_the_call_reads_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.01)
    for name in ("QUIET_S", "LINGER_S"):
        monkeypatch.setattr(lingering, name, 600.0)
    process = Process()

    async def two() -> AsyncIterator[Received]:
        for number in range(2):
            yield Received(number, 0)
        await asyncio.sleep(3600)

    requests = two()
    messages = IncomingMessages(lambda: anext(requests), asyncio.get_running_loop().create_future(), process.guard, "a")
    running = asyncio.create_task(process.guard.run())
    assert [await anext(messages), await anext(messages)] == [0, 1]
    process.used = LIMIT + MESSAGE
    with pytest.raises(StatusError, match="short of memory") as raised:
        await anext(messages)
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.UNAVAILABLE, "MEMORY_SHORT")
    async with asyncio.timeout(60):  # less than it waits for callers that still write
        await messages.discard()
    assert process.ends == 1
    messages.close()
    running.cancel()


async def test_a_read_that_ends_while_its_message_comes_ends_too() -> None:
    """A call that the guard counts as ended has ended, so that no check counts it again."""
    process = Process()
    comes: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
    messages = IncomingMessages(lambda: comes, asyncio.get_running_loop().create_future(), process.guard, "a")
    reading = asyncio.ensure_future(anext(messages))
    while not process.ends:
        await asyncio.sleep(0)
        process.check(LIMIT + 1)
    comes.set_result(Received(0, 0))
    with pytest.raises(StatusError, match="short of memory"):
        await reading
    messages.close()


async def test_slow_measurements_are_made_rarely_while_memory_is_not_short() -> None:
    """When freed memory is in a million pieces, returning it takes at most a fifth of the event loop's time."""
    looks: list[float] = []

    def look() -> int:
        looks.append(time.monotonic())
        until_s = time.thread_time() + 0.03
        while time.thread_time() < until_s:
            pass
        return LIMIT

    guard = MemoryGuard(LIMIT, MESSAGE, look)
    with guard.waiting("a"):
        running = asyncio.create_task(guard.run())
        await eventually(lambda: len(looks) >= 5)
        running.cancel()
    assert looks[4] - looks[0] > 4 * 5 * 0.029
