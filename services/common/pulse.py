"""The pulse of a worker thread: the event loop checks that the thread's loop still runs, and tells who waits for it.

A port that answers says nothing about the thread behind it, which may hang in a kernel or a driver. So every beat wakes
the thread, and the turns of its loop are counted. Time is counted in beats: a process that was frozen has missed none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

log = logging.getLogger("csm.pulse")

BEAT_S = 0.5

T = TypeVar("T")
OnStall = Callable[[str, bool], Awaitable[None]]


class Turning(Protocol):
    """A worker thread that counts the turns of its loop."""

    name: str
    turns: int

    def nudge(self) -> None: ...


class Pulse:
    """Counts the beats that a worker has missed; one without work misses none. `run` in a task of its own."""

    def __init__(
        self,
        worker: Turning,
        *,
        on_beat: Callable[[], None],
        on_stall: OnStall | None = None,
        stall_s: float,
        beat_s: float = BEAT_S,
    ) -> None:
        """on_beat: after each beat that it has not missed; on_stall: with the worker's name, and True when it has been
        silent for `stall_s` seconds, False when it goes on
        """
        self.missed = 0  # beats in a row
        self._worker = worker
        self._on_beat, self._on_stall = on_beat, on_stall or _ignore
        self._beat_s = beat_s
        self._most_missed = max(1, round(stall_s / beat_s))
        self._told = False  # that it is silent

    @property
    def beats(self) -> bool:
        """Whether the newest beat was not missed."""
        return self.missed == 0

    async def run(self) -> None:
        """Never returns."""
        while True:
            turns = self._worker.turns
            self._worker.nudge()
            await asyncio.sleep(self._beat_s)
            if self._worker.turns == turns:
                await self._miss()
            else:
                await self._beat()

    async def _miss(self) -> None:
        self.missed += 1
        if self.missed >= self._most_missed and not self._told:
            log.error("the %s thread has not gone round for %.1f s", self._worker.name, self.missed * self._beat_s)
            await self._on_stall(self._worker.name, True)
            self._told = True  # not before: a report that failed is made again

    async def _beat(self) -> None:
        if self._told:
            log.info("the %s thread goes on after %.1f s", self._worker.name, self.missed * self._beat_s)
            await self._on_stall(self._worker.name, False)
            self._told = False
        self.missed = 0
        self._on_beat()


class WatchedOutputs(asyncio.Queue[T | None], Generic[T]):
    """What a worker makes for one reader. None is a beat: nothing has come, but the worker goes round."""

    def __init__(self) -> None:
        super().__init__()
        self._is_quiet = False

    def beat(self) -> None:
        """Ends a wait in which the reader has got nothing since the last beat."""
        if self._is_quiet and self.empty():
            self.put_nowait(None)
        self._is_quiet = True

    def restart(self) -> None:
        """The reader has what it has waited for, or a beat: its next wait ends after two beats at most."""
        self._is_quiet = False

    async def get(self) -> T | None:
        """The next output, or a beat that none has followed."""
        item = await super().get()
        while item is None and not self.empty():
            item = self.get_nowait()
        return item


async def _ignore(name: str, stalled: bool) -> None:
    return None
