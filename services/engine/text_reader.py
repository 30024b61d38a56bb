"""The thread that reads the texts of requests, one request at a time, and the watch over it.

A thread that hangs cannot be ended. Then the request that it reads fails, and all others fail over to other engines
until it comes back. It knows no gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from csm_bundle.errors import EngineStoppedError, ReadingStalledError
from csm_bundle.runtime.worker_thread import WorkerThread
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest
from services.common.background import Background
from services.common.outcomes import post
from services.common.watchdog import OnStall, Watchdog
from services.engine.reading_order import ReadingOrder


class TextReader:
    """Owns the thread. All methods are called on the event loop."""

    def __init__(
        self,
        *,
        on_failure: Callable[[BaseException], None],
        on_stall: OnStall,
        stall_s: float,
        background: Background,
    ) -> None:
        """on_failure: called once on the loop if the thread itself fails; on_stall, stall_s: see Watchdog. The texts of
        a request are read in one iteration of the thread's loop.
        """
        loop = asyncio.get_running_loop()
        # One request is read at a time. Python runs one thread at a time, so more readers would finish no sooner, and
        # each slows the engine's thread: it made 40 frames a second, 8 to 19 beside one reader and 5 beside four.
        self._order = ReadingOrder()
        self._worker = WorkerThread("text reader", lambda error: post(loop, on_failure, error))
        self._worker.start()
        self._report_stall, self._stall_s = on_stall, stall_s
        self._outcome: asyncio.Future[Sequence] | None = None  # of the request that is read, or was last
        self._watchdog = Watchdog(self._worker, on_stall=self._on_stall, stall_s=stall_s, background=background)

    async def read(self, request: GenerationRequest, prepare: Callable[[], Sequence]) -> Sequence:
        """Runs `prepare` in the thread, when it is the request's turn.

        A thread cannot be cancelled. So the next request's turn begins when the thread is done, not when the call is.

        Raises: ReadingStalledError if the thread hangs at these texts; EngineStoppedError if it hangs at others, or
        after `end`; and what `prepare` raises.
        """
        await self._order.acquire(request)
        reading = asyncio.wrap_future(self._worker.call(prepare, EngineStoppedError("the engine has stopped")))
        outcome: asyncio.Future[Sequence] = asyncio.get_running_loop().create_future()
        self._outcome = outcome
        reading.add_done_callback(partial(self._end_turn, outcome))
        return await outcome

    def end(self, message: str) -> None:
        """All that wait for their turn fail at once, and so does each later one."""
        self._order.end(message)

    async def stop(self) -> None:
        """Ends the thread. One that hangs is left behind, and does not keep the process alive."""
        self._watchdog.stop()
        await asyncio.to_thread(self._worker.stop)

    def _end_turn(self, outcome: asyncio.Future[Sequence], reading: asyncio.Future[Sequence]) -> None:
        """Begins the next turn. The outcome has ended before if its caller has, or if the thread hung."""
        self._order.release()
        error = reading.exception()
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(reading.result())

    def _on_stall(self, thread: str, stalled: bool) -> None:
        if stalled:
            if self._outcome is not None and not self._outcome.done():
                message = f"The engine could not read these texts within {self._stall_s:g} s."
                self._outcome.set_exception(ReadingStalledError(message))
            self._order.pause("the thread that reads texts hangs")
        else:
            self._order.go_on()
        self._report_stall(thread, stalled)
