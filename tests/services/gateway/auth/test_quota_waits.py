"""Calls that wait for a place in their caller's quota: how many, how long, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from services.common.rpc.status import StatusError
from services.gateway.auth import quotas
from services.gateway.auth.quotas import StreamQuotas
from tests.support.virtual_time import run_in_virtual_time
from tests.support.waits import settle


async def test_waiting_calls_are_limited_by_the_quota_too() -> None:
    limited, leaves = StreamQuotas(lambda caller: 1, lambda: None), asyncio.Event()

    async def leave_late() -> None:
        async with limited.one_more("ada"):
            try:
                await asyncio.Event().wait()
            finally:
                await leaves.wait()

    async def speak() -> str:
        try:
            async with limited.one_more("ada"):
                return "OK"
        except StatusError as error:
            return error.reason

    first = asyncio.create_task(leave_late())
    await asyncio.sleep(0)
    first.cancel()
    waiting = [asyncio.create_task(speak()) for _ in range(3)]
    while sum(task.done() for task in waiting) < 2:
        await asyncio.sleep(0)
    leaves.set()
    assert sorted([await task for task in waiting]) == ["OK", quotas.EXCEEDED, quotas.EXCEEDED]
    await asyncio.wait([first])


async def leave_late(limited: StreamQuotas, leaves: asyncio.Event) -> None:
    """A call that ends only when the test says so, even after a cancel."""
    async with limited.one_more("ada"):
        try:
            await asyncio.Event().wait()
        finally:
            await leaves.wait()


async def runs_until(limited: StreamQuotas, ends: asyncio.Event) -> str:
    """A call that runs until the event. Returns "OK", or why it was refused."""
    try:
        async with limited.one_more("ada"):
            await ends.wait()
            return "OK"
    except StatusError as error:
        return error.reason


async def test_a_call_waiting_for_a_cancelled_one_takes_any_free_place() -> None:
    limited, leaves, ends, now = StreamQuotas(lambda caller: 2, lambda: None), *(asyncio.Event() for _ in range(3))
    now.set()
    leaving = asyncio.create_task(leave_late(limited, leaves))
    running = asyncio.create_task(runs_until(limited, ends))
    await asyncio.sleep(0)
    leaving.cancel()
    next_one = asyncio.create_task(runs_until(limited, now))
    await asyncio.sleep(0)
    ends.set()
    assert [await running, await next_one] == ["OK", "OK"]
    assert not leaving.done()
    leaves.set()
    await asyncio.wait([leaving])


async def test_a_cancelled_call_is_waited_for_longer_than_a_cancel_takes_to_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "_NOTICE_S", 0.01)
    monkeypatch.setattr(quotas, "_CANCEL_WAIT_S", 60.0)
    limited, leaves, now = StreamQuotas(lambda caller: 1, lambda: None), asyncio.Event(), asyncio.Event()
    now.set()
    leaving = asyncio.create_task(leave_late(limited, leaves))
    await asyncio.sleep(0)
    leaving.cancel()
    next_one = asyncio.create_task(runs_until(limited, now))
    await asyncio.sleep(0.05)
    assert not next_one.done()
    leaves.set()
    assert await next_one == "OK"
    await asyncio.wait([leaving])


async def test_a_waiting_call_gets_a_place_before_a_later_call() -> None:
    limited, leaves, ends = StreamQuotas(lambda caller: 1, lambda: None), asyncio.Event(), asyncio.Event()
    leaving = asyncio.create_task(leave_late(limited, leaves))
    await asyncio.sleep(0)
    leaving.cancel()
    first = asyncio.create_task(runs_until(limited, ends))
    await asyncio.sleep(0)

    async def come_when_it_has_left() -> str:
        await leaves.wait()
        return await runs_until(limited, ends)

    later = asyncio.create_task(come_when_it_has_left())
    await asyncio.sleep(0)
    leaves.set()
    refused = await next(asyncio.as_completed([first, later]))
    ends.set()
    assert [refused, await first] == [quotas.EXCEEDED, "OK"]


def test_a_waiting_call_takes_the_place_that_an_earlier_one_took_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked for room while the earlier one still had its turn, and then waited for the end of another call."""

    async def main() -> None:
        limited, leaves, ends, now = StreamQuotas(lambda caller: 2, lambda: None), *(asyncio.Event() for _ in range(3))
        now.set()
        leaving = asyncio.create_task(leave_late(limited, leaves))
        running = asyncio.create_task(runs_until(limited, ends))
        await asyncio.sleep(0)
        leaving.cancel()
        earlier = asyncio.create_task(runs_until(limited, now))
        await asyncio.sleep(0.6 * quotas._NOTICE_S)
        later = asyncio.create_task(runs_until(limited, now))
        await asyncio.sleep(0.6 * quotas._NOTICE_S)  # the earlier one has begun its wait anew and is woken last
        leaves.set()
        assert [await earlier, await later] == ["OK", "OK"]
        ends.set()
        await asyncio.wait([leaving, running])

    run_in_virtual_time(main(), monkeypatch)


async def test_a_call_that_ends_is_not_compared_with_those_that_run() -> None:
    """Otherwise 3000 calls that end in any order take seconds, in which the event loop does nothing else."""
    compared = 0

    class Compared(asyncio.Task[None]):
        __hash__ = asyncio.Task.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    limited = StreamQuotas(lambda caller: 0, lambda: None)

    async def run() -> None:
        async with limited.one_more(""):
            await asyncio.Event().wait()

    calls = [Compared(run()) for _ in range(300)]
    await settle()
    for call in reversed(calls):
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert compared < 10 * 300
