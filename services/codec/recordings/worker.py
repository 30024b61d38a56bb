"""The worker for recordings: a thread that encodes and searches them one at a time, beside the decode steps.

It knows no RPC. A limited number of calls may wait; further ones are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from csm_bundle.errors import CodecBusyError, CodecStoppedError
from csm_bundle.runtime.worker_thread import WorkerThread
from services.common.background import Background
from services.common.outcomes import post
from services.common.watchdog import OnStall, Watchdog

T = TypeVar("T")


class RecordingWorker:
    """Runs the work on one recording at a time, while at most `max_waiting` wait."""

    def __init__(
        self,
        max_waiting: int,
        *,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_stall: OnStall = lambda thread, stalled: None,
        stall_s: float = 300.0,
        background: Background | None = None,
    ) -> None:
        """on_failure: called once on the loop if the thread itself fails; what a call raises goes to its caller.
        on_stall, stall_s: see Watchdog. A recording is encoded in one iteration of the thread's loop.
        """
        loop = asyncio.get_running_loop()
        self._worker = WorkerThread("recordings", lambda error: post(loop, on_failure, error))
        self._worker.start()
        background = background or Background()
        self._watchdog = Watchdog(self._worker, on_stall=on_stall, stall_s=stall_s, background=background)
        self._max_waiting = max_waiting
        self._accepted = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts one call while the block runs. Raises CodecBusyError."""
        if self._accepted > self._max_waiting:
            raise CodecBusyError(f"{self._accepted} recordings are being worked on or wait already.")
        self._accepted += 1
        try:
            yield
        finally:
            self._accepted -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Raises CodecBusyError, CodecStoppedError, and what `work` raises. A cancelled wait leaves the queue."""
        with self.admitted():
            return await self.run_admitted(work)

    async def run_admitted(self, work: Callable[[], T]) -> T:
        """Runs one piece of work of a call inside `admitted`. Raises CodecStoppedError, and what `work` raises."""
        return await asyncio.wrap_future(self._worker.call(work, CodecStoppedError("The codec has stopped.")))

    async def run_pieces(self, pieces: Generator[None, None, T]) -> T:
        """Runs work of a call inside `admitted` that yields between its pieces, and returns what it returns.

        Work that waits comes between. A cancelled call, or one at a stop, ends before the next piece. Raises as
        `run_admitted` does.
        """

        def run_piece() -> tuple[T] | None:
            """The result after the last piece, else None."""
            try:
                next(pieces)
            except StopIteration as end:
                return (end.value,)
            return None

        while (result := await self.run_admitted(run_piece)) is None:
            pass
        return result[0]

    async def stop(self) -> None:
        """Waits for the running work, as WorkerThread does. Calls that wait get CodecStoppedError."""
        self._watchdog.stop()
        await asyncio.to_thread(self._worker.stop)
