"""The thread that drives the engine. Other threads submit requests and aborts; it delivers the outputs of each step.

It sleeps while there is no work, and while every live stream has enough playout lead. One callback per step delivers
the outputs of the whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from csm_bundle.errors import EngineStoppedError
from csm_bundle.runtime.worker_thread import Fail, WorkerThread
from csm_engine.loop.engine import Engine, Output
from csm_engine.model.prompt import Read, as_written
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest

Deliver = Callable[[list[Output]], None]


class EngineThread:
    """Runs `engine.step` whenever there is work.

    deliver: called on the engine thread with the outputs of one step, if there are any.
    fail: called once on the engine thread if a step raises; later requests are refused.
    """

    def __init__(self, engine: Engine, deliver: Deliver, fail: Fail) -> None:
        self._engine, self._deliver = engine, deliver
        self._silent_since: float | None = None  # None while there is nothing to step
        self.worker = WorkerThread("engine", self._step, self._next_wakeup, fail)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        """Stops the loop after the current step and joins the thread. Unfinished sequences get no more outputs."""
        self.worker.stop()

    def check(self, request: GenerationRequest) -> None:
        """As `Engine.check`, on the caller's thread."""
        self._engine.check(request)

    def check_room(self, num_coming: int, *, has_listener: bool) -> None:
        """As `Engine.check_room`, on the caller's thread: it waits for no step."""
        self._engine.check_room(num_coming, has_listener=has_listener)

    def prepare(self, request: GenerationRequest, read: Read = as_written) -> Sequence:
        """As `Engine.prepare`, on the caller's thread: no running sequence waits for the text of another."""
        return self._engine.prepare(request, read)

    def add(self, sequence: Sequence, leave_place: Callable[[], object] | None = None) -> Future[Sequence]:
        """A future of the queued sequence; it fails like `Engine.add`, or with EngineStoppedError.

        leave_place: gives back the place that the sequence has, on the engine's thread, so that it counts once
        """

        def add() -> Sequence:
            if leave_place is None:
                return self._engine.add(sequence)
            leave_place()
            return self._engine.add(sequence, has_place=True)

        return self.worker.call(add, EngineStoppedError("the engine has stopped"))

    def abort(self, sequence: Sequence) -> None:
        """Frees the sequence's slot, or its place in the queue, before the next step. It may never have been added."""
        self.worker.submit(lambda: self._engine.abort(sequence))

    def load(self) -> tuple[int, int]:
        """Number of running and of waiting sequences."""
        return self._engine.num_running, self._engine.num_waiting

    def cache_usage(self) -> float:
        """Share of the KV cache in use, 0 to 1."""
        return self._engine.cache_usage

    def offloaded_bytes(self) -> int:
        """Bytes of keys and values in host memory."""
        return self._engine.offloaded_bytes

    def silence(self) -> float | None:
        """Seconds since the last step, or since work arrived; None when idle or when pacing pauses all streams."""
        since = self._silent_since
        return None if since is None or not self._engine.has_work else time.monotonic() - since

    def _next_wakeup(self) -> float | None:
        seconds = self._engine.next_wakeup()
        if seconds != 0.0:
            self._silent_since = None
        return seconds

    def _step(self) -> None:
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        outputs = self._engine.step()
        self._silent_since = time.monotonic()
        if outputs:
            self._deliver(outputs)
