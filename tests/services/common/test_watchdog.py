"""The watchdog of a worker: whether its loop runs, and what is reported when it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
        assert watched.watchdog.missed >= 3 and not watched.beats.is_set()
        worker.hangs = False
        assert await watched.stalls.get() == ("worker", False)
        await watched.beats.wait()
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
    wait = asyncio.create_task(outputs.get())
    outputs.beat()
    await settle()
    assert not wait.done()
    outputs.beat()
    assert await wait is None


async def test_outputs_that_follow_a_beat_are_read_in_its_place() -> None:
    """Otherwise a caller that read nothing meanwhile would believe that the worker made nothing."""
    outputs = WatchedOutputs[str]()
    for _ in range(3):
        outputs.beat()
    for output in ("first", "second"):
        outputs.put_nowait(output)
    assert [await outputs.get(), await outputs.get()] == ["first", "second"]
    assert outputs.empty()
