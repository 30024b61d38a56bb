"""The watchdog of a worker: whether its loop runs, and what is reported when it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.background import Background
from services.common.watchdog import Watchdog, WatchedOutputs
from tests.support.waits import settle


class Worker:
    """A worker whose loop runs when it is nudged, unless it hangs."""

    def __init__(self) -> None:
        self.name = "worker"
        self.progress = 0
        self.hangs = False

    def nudge(self) -> None:
        self.progress += not self.hangs


class Watched:
    def __init__(self, worker: Worker) -> None:
        self.beats = asyncio.Event()
        self.missed = 0  # beats, at the last report
        self.stalls: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.watchdog = Watchdog(
            worker,
            on_beat=self.beats.set,
            on_stall=self._stall,
            stall_s=0.03,
            background=Background(),
            beat_s=0.01,
        )

    def _stall(self, thread: str, stalled: bool) -> None:
        self.missed = self.watchdog.missed
        self.stalls.put_nowait((thread, stalled))


@asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[Watched]:
    try:
        async with asyncio.timeout(20):
            yield watched
    finally:
        watched.watchdog.stop()


async def test_a_running_worker_beats() -> None:
    async with running(Watched(Worker())) as watched:
        await watched.beats.wait()
        assert watched.watchdog.worker_is_alive and watched.stalls.empty()


async def test_a_hanging_and_a_recovered_worker_are_each_reported_once() -> None:
    worker = Worker()
    worker.hangs = True
    async with running(Watched(worker)) as watched:
        assert await watched.stalls.get() == ("worker", True)
        assert watched.missed == 3 and not watched.beats.is_set()
        worker.hangs = False
        assert await watched.stalls.get() == ("worker", False)
        await watched.beats.wait()
        worker.hangs = True
        assert await watched.stalls.get() == ("worker", True), "it hangs again"
        assert watched.stalls.empty()


async def test_a_failed_report_is_repeated() -> None:
    """Otherwise a stage with a hung thread would stay ready."""
    worker, told = Worker(), asyncio.Event()
    worker.hangs = True
    ends = [OSError("once")]

    def on_stall(name: str, stalled: bool) -> None:
        if ends:
            raise ends.pop()
        told.set()

    watchdog = Watchdog(worker, on_stall=on_stall, stall_s=0.02, background=Background(), beat_s=0.01)
    async with asyncio.timeout(20):
        await told.wait()
    watchdog.stop()


async def test_a_wait_for_outputs_ends_at_the_second_beat() -> None:
    outputs = WatchedOutputs[str]()
    for made in ([], ["one of two"]):
        wait = asyncio.create_task(outputs.take(at_least=2))
        await settle()
        outputs.beat()
        for output in made:
            outputs.put(output)
        await settle()
        assert not wait.done()
        outputs.beat()
        assert await wait == made


async def test_a_beat_while_nobody_waits_does_not_end_the_next_wait() -> None:
    """Otherwise a caller that read nothing meanwhile would believe that the worker made nothing."""
    outputs = WatchedOutputs[str]()
    for _ in range(3):
        outputs.beat()
    wait = asyncio.create_task(outputs.take(at_least=2))
    await settle()
    for output in ("first", "second"):
        outputs.put(output)
    assert await wait == ["first", "second"]


async def test_a_reader_wakes_once_for_all_the_outputs_that_it_waits_for() -> None:
    outputs = WatchedOutputs[int]()
    wait = outputs.take(at_least=3, at_most=4)
    wakeup = wait.send(None)
    assert wakeup is not None
    for number in range(5):
        outputs.put(number)
        assert wakeup.done() == (number >= 2)
    with pytest.raises(StopIteration) as returned:
        wait.send(None)
    assert returned.value.value == [0, 1, 2, 3]
    assert await outputs.take(at_least=1, at_most=4) == [4]


async def test_the_last_output_and_a_failure_end_the_wait_and_no_output_is_lost() -> None:
    ended, failed = WatchedOutputs[str](), WatchedOutputs[str]()
    waits = [asyncio.create_task(outputs.take(at_least=3)) for outputs in (ended, failed)]
    await settle()
    ended.put("last", is_last=True)
    failed.put("before")
    failed.fail(OSError("first"))
    failed.fail(OSError("second"))
    assert [await wait for wait in waits] == [["last"], ["before"]]
    for _ in range(2):
        with pytest.raises(OSError, match="first"):
            await failed.take(at_least=3)
