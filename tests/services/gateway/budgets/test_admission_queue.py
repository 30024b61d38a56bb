"""Calls of different sizes: their order, what they give back, and which are refused."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from services.common.rpc.status import StatusError
from services.gateway.budgets import admission_queue
from services.gateway.budgets.admission_queue import MOST_RETRY_S, PACE_S, RETRY_S, AdmissionQueue
from services.gateway.synthesis.deadline import Deadline
from tests.support.waits import settle

REFUSAL = ("BUSY", "things run")  # its reason, and what the error says


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline(time.monotonic() + seconds)


def taking(queue: AdmissionQueue, size: int = 1, seconds: float = 30.0) -> tuple[Any, asyncio.Task[Any]]:
    """Waits to be admitted, and gives nothing back."""
    admission = queue.take(soon(seconds), size)
    return admission, asyncio.create_task(admission.__aenter__())


async def test_sizes_add_up_and_calls_come_in_order() -> None:
    queue, done = AdmissionQueue(10, 8, *REFUSAL), list[str]()
    release = {name: asyncio.Event() for name in "abcd"}

    async def work(name: str, size: int) -> None:
        async with queue.take(soon(), size):
            done.append(name)
            await release[name].wait()

    tasks = [asyncio.create_task(work(name, size)) for name, size in zip("abcd", (6, 4, 5, 1), strict=True)]
    await settle()
    assert done == ["a", "b"] and (queue.taken, queue.num_waiting) == (10, 2)
    release["b"].set()
    await settle()
    assert done == ["a", "b"] and not queue.has_room, "a small one does not overtake"
    release["a"].set()
    await settle()
    assert done == ["a", "b", "c", "d"] and queue.taken == 6
    for event in release.values():
        event.set()
    await asyncio.gather(*tasks)
    assert (queue.taken, queue.num_waiting) == (0, 0)


async def test_a_call_over_the_budget_runs_alone_and_unused_budget_is_returned() -> None:
    queue = AdmissionQueue(10, 8, *REFUSAL)
    async with queue.take(soon(), 1000) as admission:
        assert queue.taken == 10 and not queue.has_room
        _, waiting = kept = taking(queue, 3)
        await settle()
        assert not waiting.done()
        admission.shrink(6)
        await settle()
        assert waiting.done() and queue.taken == 9
        admission.shrink(8)
        assert queue.taken == 9, "an admission never grows"
    assert queue.taken == 3
    await kept[0].__aexit__(None, None, None)
    assert queue.taken == 0


async def test_one_too_many_and_one_too_late_are_refused_and_counted() -> None:
    refusals = list[int]()
    queue = AdmissionQueue(1, 1, *REFUSAL, lambda: refusals.append(1))
    async with queue.take(soon()):
        _, waiting = taking(queue, seconds=0.05)
        await settle()
        with pytest.raises(StatusError, match="1 things run, and others wait: at most 1 may wait") as refused:
            await queue.take(soon()).__aenter__()
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY")
        assert refused.value.retry_delay_s is not None
        with pytest.raises(StatusError, match="did not come in time"):
            await waiting
    assert (queue.taken, queue.num_waiting, len(refusals)) == (0, 0, 2)


async def test_cancelled_calls_return_their_budget_and_leave_the_queue() -> None:
    queue = AdmissionQueue(4, 8, *REFUSAL)
    first, entered = taking(queue, 3)
    await entered
    _, large = taking(queue, 4)
    await settle()
    second, small = taking(queue, 1)
    await settle()
    assert not small.done()
    large.cancel()
    await settle()
    assert small.done() and queue.taken == 4, "the one behind it goes on"
    _, granted = taking(queue, 4)
    await settle()
    for admission in (first, second):
        await admission.__aexit__(None, None, None)
    granted.cancel()  # just when it is granted
    await settle()
    assert (queue.taken, queue.num_waiting) == (0, 0)


async def test_many_calls_that_give_up_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 20,000 of them stop the event loop for seconds, and every stream with it."""
    compared = 0

    class Compared(asyncio.Future[None]):
        __hash__ = asyncio.Future.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    queue = AdmissionQueue(1, 1000, *REFUSAL, newest_first=True)
    async with queue.take(soon()):
        monkeypatch.setattr(asyncio.get_running_loop(), "create_future", Compared)
        waiting = [taking(queue) for _ in range(300)]
        await settle()
        assert queue.num_waiting == 300
        for _, call in waiting:
            call.cancel()
        await asyncio.gather(*(call for _, call in waiting), return_exceptions=True)
    assert queue.num_waiting == 0 and compared <= 300


def test_refused_calls_are_to_come_again_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(admission_queue, "time", SimpleNamespace(monotonic=lambda: now_s))
    queue = AdmissionQueue(1, 0, *REFUSAL)
    assert [queue.busy("x").retry_delay_s for _ in range(3)] == [RETRY_S, RETRY_S + PACE_S, RETRY_S + 2 * PACE_S]
    assert [queue.busy("x").retry_delay_s for _ in range(200)][-2:] == 2 * [MOST_RETRY_S]
    now_s += 2 * MOST_RETRY_S
    assert queue.busy("x").retry_delay_s == RETRY_S
