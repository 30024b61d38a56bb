"""A watchdog for a worker thread: the event loop checks that the thread's loop still runs, and tells waiting readers.

A worker may hang in a kernel or a driver while the port still answers. So each beat wakes the worker's loop and checks
that it went round since the last beat. Time is counted in beats, so a process that was frozen as a whole misses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from services.common.background import Background

log = logging.getLogger("csm.watchdog")

BEAT_S = 0.5

T = TypeVar("T")
OnStall = Callable[[str, bool], None]


class Worker(Protocol):
    """A worker thread that counts its progress, as WorkerThread does."""

    name: str
    progress: int

    def nudge(self) -> None: ...


class Watchdog:
    """Counts the beats that a worker has missed, from its construction on. An idle worker misses none."""

    def __init__(
        self,
        worker: Worker,
        *,
        on_beat: Callable[[], None] = lambda: None,
        on_stall: OnStall,
        stall_s: float,
        background: Background,
        beat_s: float = BEAT_S,
    ) -> None:
        """on_beat: called after each beat that was not missed; on_stall: called with the worker's name, and True when
        it has made no progress for `stall_s` seconds, False when it continues. background: runs the task that checks
        """
        self.missed = 0  # beats in a row
        self._worker = worker
        self._on_beat, self._on_stall = on_beat, on_stall
        self._beat_s = beat_s
        self._max_missed = max(1, round(stall_s / beat_s))
        self._stall_reported = False
        self._task = background.start(f"watchdog of the {worker.name}", self._run)

    @property
    def worker_is_alive(self) -> bool:
        """Whether the newest beat was not missed."""
        return self.missed == 0

    def stop(self) -> None:
        """Ends the checks."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            progress = self._worker.progress
            self._worker.nudge()
            await asyncio.sleep(self._beat_s)
            if self._worker.progress == progress:
                self._miss()
            else:
                self._beat()

    def _miss(self) -> None:
        self.missed += 1
        if self.missed >= self._max_missed and not self._stall_reported:
            log.error("the %s thread has not gone round for %.1f s", self._worker.name, self.missed * self._beat_s)
            self._on_stall(self._worker.name, True)
            self._stall_reported = True  # only now, so that a report that fails is repeated

    def _beat(self) -> None:
        if self._stall_reported:
            log.info("the %s thread goes on after %.1f s", self._worker.name, self.missed * self._beat_s)
            self._on_stall(self._worker.name, False)
            self._stall_reported = False
        self.missed = 0
        self._on_beat()


class WatchedOutputs(Generic[T]):
    """A worker's outputs for one reader, which waits for many of them at once, so that it wakes once for all.

    All methods are called on the event loop.
    """

    def __init__(self) -> None:
        self._outputs: deque[T] = deque()
        self._error: Exception | None = None  # raised after the last output
        self._has_ended = False
        self._wait: asyncio.Future[None] | None = None  # the reader's
        self._num_wanted = 0  # outputs that it waits for
        self._is_quiet = False  # whether the reader's wait has lasted a whole beat

    def put(self, output: T, *, is_last: bool = False) -> None:
        """Adds an output. is_last: the reader waits for no more."""
        self._outputs.append(output)
        self._has_ended |= is_last
        if self._has_ended or len(self._outputs) >= self._num_wanted:
            self._end_wait()

    def fail(self, error: Exception) -> None:
        """Makes `take` raise the error when no output is left. Of two errors the first counts."""
        self._error = self._error or error
        self._has_ended = True
        self._end_wait()

    def beat(self) -> None:
        """Ends the reader's wait if it has lasted since the last beat."""
        if self._is_quiet:
            self._end_wait()
        self._is_quiet = True

    async def take(self, at_least: int = 1, at_most: int | None = None) -> list[T]:
        """The next outputs: `at_least` as many as are waited for, `at_most` as are taken of those that are there.

        The wait ends at the last output, and after at most two beats: the list is then shorter, and may be empty.
        Raises: the error of `fail`.
        """
        if len(self._outputs) < at_least and not self._has_ended:
            self._num_wanted, self._is_quiet = at_least, False
            self._wait = asyncio.get_running_loop().create_future()
            await self._wait
        if self._error is not None and not self._outputs:
            raise self._error
        count = len(self._outputs) if at_most is None else min(at_most, len(self._outputs))
        return [self._outputs.popleft() for _ in range(count)]

    def _end_wait(self) -> None:
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(None)
