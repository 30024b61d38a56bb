"""The one thread that drives the engine. Others hand it requests and aborts; it hands back each step's outputs.

Nothing here polls: the thread sleeps until there is work, also while everybody's listener has enough to hear. Outputs
go to one callback per step, for the whole batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from csm_engine.engine import Engine, Output
from csm_engine.errors import EngineStoppedError
from csm_engine.sequence import Sequence
from csm_engine.types import GenerationRequest

logger = logging.getLogger(__name__)

Deliver = Callable[[list[Output]], None]
Fail = Callable[[BaseException], None]
Command = Callable[[], None]


class EngineThread:
    """Runs `engine.step` whenever there is work.

    deliver: called on the engine thread with the outputs of one step, if there are any.
    fail: called once on the engine thread if a step raises; the engine takes no more requests after that.
    """

    def __init__(self, engine: Engine, deliver: Deliver, fail: Fail) -> None:
        self._engine = engine
        self._deliver = deliver
        self._fail = fail
        self._commands: deque[Command] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self._last_step_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the running step and joins the thread. Sequences that still run get no more outputs."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def add_request(self, request: GenerationRequest) -> Future[Sequence]:
        """A future of the queued sequence, or of InvalidRequestError, EngineBusyError, EngineStoppedError."""
        future: Future[Sequence] = Future()

        def add() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if self._stopped:
                    raise EngineStoppedError("the engine has stopped")
                future.set_result(self._engine.add_request(request))
            except Exception as error:
                future.set_exception(error)

        if not self._submit(add):
            future.set_exception(EngineStoppedError("the engine has stopped"))
        return future

    def abort(self, sequence: Sequence) -> None:
        """Frees the sequence's slot before the next step."""
        self._submit(lambda: self._engine.abort(sequence))

    def load(self) -> tuple[int, int]:
        """(running, waiting) sequences."""
        return self._engine.num_running, self._engine.num_waiting

    def cache_usage(self) -> float:
        """Share of the KV cache in use, 0 to 1."""
        return self._engine.cache_usage

    def spilled_bytes(self) -> int:
        """Keys and values in host memory."""
        return self._engine.spilled_bytes

    def silence(self) -> float | None:
        """Seconds since the last step while work is waiting; None when idle."""
        return time.monotonic() - self._last_step_at if self._engine.has_work else None

    def _submit(self, command: Command) -> bool:
        with self._wake:
            if self._stopped:
                return False
            self._commands.append(command)
            self._wake.notify()
            return True

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                outputs = self._engine.step()
                self._last_step_at = time.monotonic()
                if outputs:
                    self._deliver(outputs)
        except BaseException as error:
            logger.exception("the engine failed")
            with self._wake:
                self._stopped = True
            self._run_commands()
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Runs the commands that have come in; false when the loop shall end."""
        with self._wake:
            while not (self._stopped or self._commands or (rest := self._engine.rest()) == 0.0):
                self._wake.wait(timeout=rest)
        self._run_commands()
        return not self._stopped

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()()
