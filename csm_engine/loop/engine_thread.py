"""The thread that drives the engine. Other threads prepare sequences with the engine, and add and abort them here.

One callback per step delivers the outputs of the whole batch. The thread sleeps while there is no work, and while
pacing pauses every stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from csm_bundle.errors import EngineStoppedError
from csm_bundle.runtime.worker_thread import Fail, WorkerThread
from csm_engine.loop.engine import Engine, Output
from csm_engine.scheduling.sequence import Sequence

Deliver = Callable[[list[Output]], None]


class EngineThread:
    """Runs `engine.step` whenever there is work.

    deliver: called on the engine thread with the outputs of one step, if there are any.
    fail: called once on the engine thread if a step raises; later requests are refused.
    """

    def __init__(self, engine: Engine, deliver: Deliver, fail: Fail) -> None:
        self._engine, self._deliver = engine, deliver
        self._last_step_at: float | None = None  # time.monotonic(), or when work arrived; None while there is no work
        self.worker = WorkerThread("engine", fail, self._step, self._next_wakeup)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        """Stops the loop after the current step and joins the thread. Unfinished sequences get no more outputs."""
        self.worker.stop()

    def add(self, sequence: Sequence, on_queued: Callable[[], object] | None = None) -> Future[Sequence]:
        """A future of the queued sequence; it fails like `Engine.add`, or with EngineStoppedError.

        on_queued: given when the sequence has a place (`check_room`). Called on the engine's thread as it is queued, so
        that the caller no longer counts it as pending.
        """
        stopped = EngineStoppedError("the engine has stopped")
        return self.worker.call(lambda: self._engine.add(sequence, on_queued), stopped)

    def abort(self, sequence: Sequence) -> None:
        """Cancels a sequence before the next step, wherever it is. Has no effect on one that was never added."""
        self.worker.submit(lambda: self._engine.abort(sequence))

    def load(self) -> tuple[int, int]:
        """Number of running and of waiting sequences."""
        return self._engine.num_running, self._engine.num_waiting

    def silence(self) -> float | None:
        """Seconds since the last step, or since work arrived; None when idle or when pacing pauses all streams."""
        since = self._last_step_at
        return None if since is None or not self._engine.has_work else time.monotonic() - since

    def _next_wakeup(self) -> float | None:
        seconds = self._engine.next_wakeup()
        if seconds != 0.0:
            self._last_step_at = None
        return seconds

    def _step(self) -> None:
        if self._last_step_at is None:
            self._last_step_at = time.monotonic()
        outputs = self._engine.step()
        self._last_step_at = time.monotonic()
        if outputs:
            self._deliver(outputs)
