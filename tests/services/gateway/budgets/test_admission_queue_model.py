"""Random takes, ends, cancels and deadlines at a queue, against a slow model of which calls run and which wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from services.common.rpc.status import StatusError
from services.gateway.budgets import admission_queue as module
from services.gateway.budgets.admission_queue import Admission, AdmissionQueue
from services.gateway.synthesis import deadline as deadline_module
from services.gateway.synthesis.deadline import Deadline
from tests.support.virtual_time import run_in_virtual_time
from tests.support.waits import settle

AT_ONCE, MAX_WAITING, STEPS = 10, 4, 400


class Model:
    """The expected state: numbers of calls, in the order of arrival."""

    def __init__(self, newest_first: bool) -> None:
        self.newest_first = newest_first
        self.running: dict[int, int] = {}
        self.waiting: list[tuple[int, int]] = []

    def take(self, number: int, size: int) -> bool:
        """False when it is refused."""
        size = min(size, AT_ONCE)
        if not self.waiting and size <= self.free:
            self.running[number] = size
            return True
        if len(self.waiting) == MAX_WAITING:
            return False
        self.waiting.append((number, size))
        self.advance()
        return True

    def leave(self, number: int) -> None:
        self.running.pop(number, None)
        self.waiting = [each for each in self.waiting if each[0] != number]
        self.advance()

    def advance(self) -> None:
        while self.waiting and self.waiting[-1 if self.newest_first else 0][1] <= self.free:
            number, size = self.waiting.pop(-1 if self.newest_first else 0)
            self.running[number] = size

    @property
    def free(self) -> int:
        return AT_ONCE - sum(self.running.values())


class Calls:
    """Real calls: each is a task that holds what it took until `end`."""

    def __init__(self, queue: AdmissionQueue) -> None:
        self._queue = queue
        self.running: dict[int, Admission] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.ends: dict[int, asyncio.Event] = {}

    def begin(self, number: int, size: int, seconds: float) -> None:
        self.ends[number] = asyncio.Event()
        self.tasks[number] = asyncio.create_task(self._hold(number, size, seconds))

    async def _hold(self, number: int, size: int, seconds: float) -> None:
        deadline = Deadline(asyncio.get_running_loop().time() + seconds)
        try:
            async with self._queue.take(deadline, size) as admission:
                self.running[number] = admission
                await self.ends[number].wait()
        finally:
            self.running.pop(number, None)

    def refused(self) -> Iterator[int]:
        """The calls that were refused since the last call of this method."""
        for number, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[number]
                if not task.cancelled() and isinstance(task.exception(), StatusError):
                    yield number


@pytest.mark.parametrize("newest_first", [False, True], ids=["in order", "newest first"])
@pytest.mark.parametrize("seed", range(5))
def test_admissions_are_those_of_the_model(newest_first: bool, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_virtual_time(_compare(newest_first, random.Random(seed)), monkeypatch, module, deadline_module)


async def _compare(newest_first: bool, drawn: random.Random) -> None:
    loop = asyncio.get_running_loop()
    queue = AdmissionQueue(AT_ONCE, MAX_WAITING, "BUSY", "things run", newest_first=newest_first)
    model, calls = Model(newest_first), Calls(queue)
    until: dict[int, float] = {}  # deadlines of the calls that wait
    outcomes: set[str] = set()
    for number in range(STEPS):
        step = drawn.choices(["take", "end", "cancel", "shrink", "pass time"], [5, 4, 1, 1, 1])[0]
        chosen = drawn.choice(list(calls.tasks)) if calls.tasks else None
        refused: set[int] = set()
        if step == "take":
            size, seconds = drawn.choice([1, 1, 2, 5, 10, 99]), drawn.choice([1.5, 1000.0])
            calls.begin(number, size, seconds)
            until[number] = loop.time() + seconds
            if not model.take(number, size):
                refused.add(number)
        elif step == "end" and model.running:
            ended = drawn.choice(list(model.running))
            calls.ends[ended].set()
            model.leave(ended)
        elif step == "cancel" and chosen is not None:
            calls.tasks[chosen].cancel()
            model.leave(chosen)
        elif step == "shrink" and model.running:
            shrunk = drawn.choice(list(model.running))
            calls.running[shrunk].shrink(1)
            model.running[shrunk] = 1
            model.advance()
        elif step == "pass time":
            await asyncio.sleep(1.0)
            for late in [each for each, _ in model.waiting if until[each] <= loop.time()]:
                model.leave(late)
                refused.add(late)
        await settle()
        outcomes |= {step} if step != "pass time" or refused else set()
        outcomes |= {"full"} if step == "take" and refused else set()
        assert set(calls.refused()) == refused
        assert set(calls.running) == set(model.running)
        assert (queue.taken, queue.num_waiting) == (AT_ONCE - model.free, len(model.waiting))
    assert outcomes == {"take", "end", "cancel", "shrink", "pass time", "full"}, "all of it has happened"
    for task in calls.tasks.values():
        task.cancel()
    for task in calls.tasks.values():
        with suppress(asyncio.CancelledError):
            await task
    assert (queue.taken, queue.num_waiting) == (0, 0)
