"""A thread that owns an object which is not thread-safe. It steps the object, and runs other threads' commands in
between.

The thread sleeps until there is work; it does not poll. It does not know what it steps.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

logger = logging.getLogger(__name__)

Step = Callable[[], None]
NextWakeup = Callable[[], float | None]
Fail = Callable[[BaseException], None]
Result = TypeVar("Result")

STOP_S = 10.0  # longest wait for the running step in `stop`


class WorkerThread:
    """Runs commands, and `step` whenever `next_wakeup` says so.

    fail: called once on the thread if a step or a command raises; nothing runs after it.
    next_wakeup: seconds until the next step: 0 is now; None waits for a command, as by default.
    begin: called once on the thread, before all else.
    """

    def __init__(
        self,
        name: str,
        fail: Fail,
        step: Step = lambda: None,
        next_wakeup: NextWakeup = lambda: None,
        begin: Step = lambda: None,
    ) -> None:
        self.name = name
        self._step, self._next_wakeup, self._fail, self._begin = step, next_wakeup, fail, begin
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self.progress = 0  # iterations of the loop and commands, for a watchdog
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the running step and joins the thread, if it was started.

        A thread that hangs for longer than STOP_S is abandoned; as a daemon it does not keep the process alive.
        """
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                logger.error("the %s does not come back from its step, and is left behind", self.name)

    def nudge(self) -> None:
        """Wakes the loop without a step, so that `progress` grows unless the thread hangs in a step or a command."""
        with self._wake:
            self._wake.notify()

    def submit(self, command: Callable[[], None]) -> bool:
        """Queues a command, to be run before the next step. Returns false if the thread has stopped."""
        with self._wake:
            if self._stopped:
                return False
            self._commands.append(command)
            self._wake.notify()
            return True

    def call(self, function: Callable[[], Result], stopped: Exception) -> Future[Result]:
        """Queues a function. Returns a future of its result, which fails with `stopped` if the thread has stopped.

        The future is resolved on the thread. Cancelling it drops the function at once, with all that it refers to.
        """
        future: Future[Result] = Future()
        functions = [function]  # so that a cancellation can drop it while the command is in the queue
        future.add_done_callback(lambda _: functions.clear())

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if self._stopped:
                    raise stopped
                future.set_result(functions[0]())
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:  # a panic of a Rust library, which the future's reader does not expect
                logger.exception("a call of the %s failed", self.name)
                future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

        if not self.submit(command):
            future.set_exception(stopped)
        return future

    def _run(self) -> None:
        try:
            self._begin()
            while self._wait_for_work():
                self._step()
            self._run_remaining()  # commands queued before the stop that the loop has not seen
        except BaseException as error:
            logger.exception("the %s failed", self.name)
            with self._wake:
                self._stopped = True
            self._run_remaining()
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Runs the queued commands. Returns false when the loop must end."""
        with self._wake:
            self.progress += 1
            while not (self._stopped or self._commands or (seconds := self._next_wakeup()) == 0.0):
                self._wake.wait(timeout=None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
                self.progress += 1
        self._run_commands()
        return not self._stopped

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()()
            self.progress += 1  # a command is progress: the next one may have been queued meanwhile

    def _run_remaining(self) -> None:
        """Runs the remaining commands after the end of the loop, so that every future is resolved."""
        while self._commands:
            try:
                self._run_commands()
            except BaseException:  # also a panic of a Rust library: `fail` must still be called
                logger.exception("a command failed after the end of the %s", self.name)
