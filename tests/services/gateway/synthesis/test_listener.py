"""Samples that wait for a caller: when it counts as behind, and when it has caught up."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.synthesis.listener import Listener
from tests.support.waits import settle


class Caller:
    """A caller that reads a piece each time the test says so."""

    def __init__(self) -> None:
        self.asked, self.may = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def take(self, samples: bytes) -> None:
        self.asked.release()
        await self.may.acquire()


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def listener(caller: Caller) -> Listener:
    return Listener(caller.take, 0.0, 4, lambda: None)


async def test_a_caller_that_read_everything_has_caught_up(listener: Listener, caller: Caller) -> None:
    running = asyncio.create_task(listener.run())
    await listener.put(bytes(8))
    await caller.asked.acquire()
    await listener.behind()
    caller.may.release()
    await settle()
    assert listener.taken_samples == listener.put_samples == 4
    await asyncio.wait_for(listener.caught_up(1), 20)
    running.cancel()


async def test_a_caller_that_reads_nothing_has_not_caught_up(listener: Listener, caller: Caller) -> None:
    running = asyncio.create_task(listener.run())
    await listener.put(bytes(8))
    await caller.asked.acquire()
    await listener.behind()
    waiting = asyncio.create_task(listener.caught_up(100))
    await settle()
    assert not waiting.done()
    caller.may.release()
    await asyncio.wait_for(waiting, 20)
    running.cancel()


async def test_caller_with_much_left_has_not_caught_up(listener: Listener, caller: Caller) -> None:
    running = asyncio.create_task(listener.run())
    await listener.put(bytes(24))
    await caller.asked.acquire()
    waiting = asyncio.create_task(listener.caught_up(5))
    caller.may.release()
    await settle()
    assert listener.taken_samples == 4 and not waiting.done()
    caller.may.release()
    await asyncio.wait_for(waiting, 20)
    running.cancel()
