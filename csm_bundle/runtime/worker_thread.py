"""A thread that owns an object which only one thread may use: it steps the object, and runs commands between steps.

It does not poll: it sleeps until there is work. It does not know the object.
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

STOP_S = 10.0  # longest wait for the running step when the thread is stopped


class WorkerThread:
    """Runs `step` when `next_wakeup` says so.

    next_wakeup: seconds until the next step is due: 0 is now; None is not before the next command.
    fail: called once, on the thread, if a step or a command raises; there are no steps after that.
    """

    def __init__(self, name: str, step: Step, next_wakeup: NextWakeup, fail: Fail) -> None:
        self.name = name
        self._step, self._next_wakeup, self._fail = step, next_wakeup, fail
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self.turns = 0  # iterations of the loop; a watchdog sees by them that the thread does not hang
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the running step and joins the thread, if it was started.

        A thread whose step takes longer than STOP_S is abandoned. It is a daemon, so the process can exit.
        """
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                logger.error("the %s does not come back from its step, and is left behind", self.name)

    def nudge(self) -> None:
        """Wakes the loop without a step. Then `turns` grows, unless the thread hangs in a step or a command."""
        with self._wake:
            self._wake.notify()

    def submit(self, command: Callable[[], None]) -> bool:
        """Queues a command to be run before the next step. Returns False when the thread has stopped."""
        with self._wake:
            if self._stopped:
                return False
            self._commands.append(command)
            self._wake.notify()
            return True

    def call(self, function: Callable[[], Result], stopped: Exception) -> Future[Result]:
        """Calls the function on the thread. The future raises `stopped` if the thread has stopped.

        A function whose future is cancelled before its turn is not called, and is released at once.
        """
        future: Future[Result] = Future()
        functions = [function]  # released by a cancel, while the command stays in the queue
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
            except BaseException as error:  # such as a panic of a library in Rust; the caller gets an Exception
                logger.exception("a call of the %s failed", self.name)
                future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

        if not self.submit(command):
            future.set_exception(stopped)
        return future

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._step()
            self._run_remaining_commands()  # queued before the stop, but after the loop looked for commands
        except BaseException as error:
            logger.exception("the %s failed", self.name)
            with self._wake:
                self._stopped = True
            self._run_remaining_commands()
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Waits, then runs the queued commands. Returns False when the loop must end."""
        with self._wake:
            self.turns += 1
            while not (self._stopped or self._commands or (seconds := self._next_wakeup()) == 0.0):
                self._wake.wait(timeout=seconds)
                self.turns += 1
        self._run_commands()
        return not self._stopped

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()()

    def _run_remaining_commands(self) -> None:
        """Runs the commands that are left after the last step. Those that fail are logged."""
        while self._commands:
            try:
                self._run_commands()
            except BaseException:  # such as a panic of a library in Rust; `fail` must still be called
                logger.exception("a command failed after the end of the %s", self.name)
