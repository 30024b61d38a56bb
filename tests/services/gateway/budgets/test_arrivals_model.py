"""Many random callers, honest, lying, slow and leaving: the invariants of Arrivals hold."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from services.common.rpc.server import UNREAD_BYTES
from services.common.rpc.status import StatusError
from services.gateway.budgets import admission_queue as queue_module
from services.gateway.budgets import arrivals as module
from services.gateway.budgets.arrivals import PATIENCE_S, SLICE_S, SLICES, SLOTS, SLOW_AFTER_S, Arrivals
from services.gateway.synthesis import deadline as deadline_module
from services.gateway.synthesis.deadline import Deadline
from tests.support.virtual_time import run_in_virtual_time

PLACES, MAX_WAITING, CALLERS = 3, 8, 400
NEVER_S = 1e6
LARGE, SMALL = UNREAD_BYTES + 1, 100


@dataclass
class Watch:
    """What the requests of all callers hold of the memory."""

    large: int = 0
    most_large: int = 0
    reading: int = 0
    most_reading: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    waiting: list[int] = field(default_factory=list)  # announced callers without a place, in the order of arrival
    overtaken: list[int] = field(default_factory=list)


class Caller:
    """A call with one request."""

    def __init__(self, number: int, drawn: random.Random, watch: Watch) -> None:
        self.number, self._watch = number, watch
        self.size = drawn.choice([SMALL, LARGE])
        self.announced = drawn.choice([0, self.size, self.size, LARGE, SMALL, 10**12 - 1])
        self.comes_after_s = drawn.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.03, 0.3, 4.0, NEVER_S])
        self.runs_s = drawn.choice([0.0, 0.01, 0.5, 3.0, 8.0])
        self.deadline_s = drawn.choice([0.02, 2.0, 20.0])
        self.leaves_after_s = drawn.choice([NEVER_S, NEVER_S, NEVER_S, 0.0, 0.01, 0.06, 1.0, 10.0])
        self.fails = drawn.random() < 0.1
        self.num_bytes = 0
        self.is_read = False

    @property
    def is_announced(self) -> bool:
        return self.announced > UNREAD_BYTES

    async def __anext__(self) -> str:
        watch = self._watch
        self.is_read = True
        if self.is_announced:
            if watch.waiting[0] != self.number:
                watch.overtaken.append(self.number)
            watch.waiting.remove(self.number)
        watch.reading += 1
        watch.most_reading = max(watch.most_reading, watch.reading)
        try:
            await asyncio.sleep(self.comes_after_s)
        finally:
            watch.reading -= 1
        self.num_bytes = self.size
        return "request"

    async def call(self, arrivals: Arrivals) -> None:
        loop, watch = asyncio.get_running_loop(), self._watch
        if self.is_announced:
            watch.waiting.append(self.number)
        began_s = loop.time()
        requests: Any = self
        try:
            async with arrivals.receive(requests, Deadline(began_s + self.deadline_s), self.announced):
                is_large = self.size > UNREAD_BYTES
                watch.large += is_large
                watch.most_large = max(watch.most_large, watch.large)
                assert not is_large or arrivals.num_large <= PLACES
                try:
                    await asyncio.sleep(self.runs_s)
                    if self.fails:
                        raise ValueError("its handler")
                finally:
                    watch.large -= is_large
        finally:
            if self.number in watch.waiting:
                watch.waiting.remove(self.number)
            self.took_s = loop.time() - began_s

    def check(self, outcome: BaseException | None) -> str:
        """How the call ended, which is checked against what must not happen."""
        if isinstance(outcome, StatusError):
            assert outcome.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
            if outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                assert self.is_read and self.took_s == pytest.approx(self.deadline_s, abs=1e-3)
            else:
                assert outcome.retry_delay_s
                if not self.is_announced and not self.is_read:
                    assert self.took_s == pytest.approx(min(PATIENCE_S, self.deadline_s), abs=1e-3)
            return outcome.code.name
        assert outcome is None or self.fails or isinstance(outcome, asyncio.CancelledError), repr(outcome)
        if outcome is None:
            assert self.is_read and self.num_bytes == self.size, "no request is accepted that has not come"
        return type(outcome).__name__


@pytest.mark.parametrize("seed", range(4))
def test_invariants_hold_in_any_order_of_events(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = (module, queue_module, deadline_module)
    run_in_virtual_time(_storm(random.Random(seed)), monkeypatch, *modules)


async def _storm(drawn: random.Random) -> None:
    loop, watch = asyncio.get_running_loop(), Watch()
    arrivals = Arrivals(PLACES, MAX_WAITING)
    callers, tasks = [], []
    for number in range(CALLERS):
        caller = Caller(number, drawn, watch)
        task = asyncio.create_task(caller.call(arrivals))
        if caller.leaves_after_s < NEVER_S:
            loop.call_later(caller.leaves_after_s, task.cancel)
        callers.append(caller)
        tasks.append(task)
        await asyncio.sleep(drawn.choice([0.0, 0.0, 0.0, 0.05, 0.5]))
        assert watch.reading <= PLACES + SLOTS and arrivals.num_large <= PLACES
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for caller, outcome in zip(callers, outcomes, strict=True):
        watch.outcomes[caller.check(outcome)] += 1
    assert set(watch.outcomes) == {
        *("NoneType", "CancelledError", "ValueError"),
        *("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"),
    }
    assert watch.most_large == PLACES and PLACES < watch.most_reading <= PLACES + SLOTS
    assert not watch.overtaken, "who announced is served in the order of arrival"
    assert (watch.large, watch.reading, arrivals.num_large) == (0, 0, 0)
    await _all_is_free(arrivals, drawn)


async def _all_is_free(arrivals: Arrivals, drawn: random.Random) -> None:
    """As many large requests as there are places are received at the same time, and a small one beside them."""
    watch = Watch()

    async def served(number: int, size: int, runs_s: float) -> float:
        caller = Caller(number, drawn, watch)
        caller.size, caller.announced, caller.comes_after_s, caller.runs_s = size, 0, 0.0, runs_s
        caller.deadline_s, caller.fails = 100.0, False
        await caller.call(arrivals)
        return caller.took_s - runs_s

    held = [asyncio.create_task(served(number, LARGE, 50.0)) for number in range(PLACES)]
    await asyncio.sleep(1.0)
    assert await served(PLACES, SMALL, 0.0) == 0.0
    assert await asyncio.gather(*held) == pytest.approx([0.0] * PLACES, abs=1e-3)


@pytest.mark.parametrize("announced", [0, LARGE], ids=["unannounced", "announced"])
def test_callers_that_send_nothing_cannot_keep_others_out(announced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent callers hold all places and slots. One that sends is served within the time that they are given."""

    async def main() -> None:
        drawn, watch = random.Random(0), Watch()
        arrivals = Arrivals(PLACES, MAX_WAITING)

        def caller(number: int, comes_after_s: float) -> Caller:
            made = Caller(number, drawn, watch)
            made.size, made.announced, made.comes_after_s, made.runs_s = LARGE, announced, comes_after_s, 0.0
            made.deadline_s, made.fails = 1000.0, False
            return made

        silent = [asyncio.create_task(caller(number, NEVER_S).call(arrivals)) for number in range(PLACES + SLOTS)]
        await asyncio.sleep(0)
        retry_s = 0.0
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:  # a refused call is made again
            sending = caller(100, 0.0)
            try:
                await sending.call(arrivals)
                break
            except StatusError as error:
                assert error.retry_delay_s is not None
                retry_s += error.retry_delay_s
                await asyncio.sleep(error.retry_delay_s)
        assert loop.time() - began_s - retry_s <= 2 * SLOW_AFTER_S + SLICES * SLICE_S + SLICE_S
        assert retry_s <= 2 * SLOW_AFTER_S
        for task in silent:
            task.cancel()
        await asyncio.wait(silent)
        for task in silent:
            if not task.cancelled():
                task.exception()

    run_in_virtual_time(main(), monkeypatch, module, queue_module, deadline_module)
