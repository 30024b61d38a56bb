"""A watchdog for a worker thread: the event loop checks that the thread's loop still runs, and tells waiting readers.

A worker may hang in a kernel or a driver while the port still answers. So each beat wakes the worker's loop and checks
that it went round since the last beat. Time is counted in beats, so a process that was frozen as a whole misses none.
"""

from __future__ import annotations

import asyncio
import logging
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


class WatchedOutputs(asyncio.Queue[T | None], Generic[T]):
    """A queue of a worker's outputs for one reader. The item None is a beat: no output yet, but the worker is alive."""

    def __init__(self) -> None:
        super().__init__()
        self._is_quiet = False  # whether the reader's wait has lasted a whole beat

    def beat(self) -> None:
        """Ends the reader's wait if it has got nothing since the last beat."""
        if self._is_quiet and self.empty():
            self.put_nowait(None)
        self._is_quiet = True

    def restart(self) -> None:
        """To be called when the reader stops waiting. Its next wait ends after at most two beats."""
        self._is_quiet = False

    async def get(self) -> T | None:
        """The next output; None for a beat that no output has followed yet."""
        item = await super().get()
        while item is None and not self.empty():
            item = self.get_nowait()
        return item
