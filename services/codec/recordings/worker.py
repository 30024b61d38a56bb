"""The worker for whole recordings: it encodes and searches them one at a time, in a thread beside the decode steps.

It knows no RPC. A limited number of calls wait; further ones are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from csm_bundle.errors import CodecBusyError

T = TypeVar("T")


class RecordingWorker:
    """Runs the work on one recording at a time, while at most `max_waiting` wait."""

    def __init__(self, max_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="recordings")
        self._max_waiting = max_waiting
        self._accepted = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """The time of one call, from its first samples to its last work. Raises CodecBusyError."""
        if self._accepted > self._max_waiting:
            raise CodecBusyError(f"{self._accepted} recordings are being worked on or wait already.")
        self._accepted += 1
        try:
            yield
        finally:
            self._accepted -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Raises CodecBusyError, and what `work` raises. A cancelled wait leaves the queue."""
        with self.admitted():
            return await self.run_admitted(work)

    async def run_admitted(self, work: Callable[[], T]) -> T:
        """Runs one piece of a call that was admitted before. It is never refused between two pieces."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def stop(self) -> None:
        """Waits until the running work has ended."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
