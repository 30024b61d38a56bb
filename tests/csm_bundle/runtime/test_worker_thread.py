"""Only one thread uses what a worker owns, and no caller of the worker waits for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from csm_bundle.runtime import worker_thread as module
from csm_bundle.runtime.worker_thread import WorkerThread

WAIT_S = 60.0


class Countdown:
    """Steps that many times, and records the thread of each step."""

    def __init__(self) -> None:
        self.left = 0
        self.threads: set[str] = set()
        self.failures: list[BaseException] = []
        self.failed = threading.Event()
        self.worker = WorkerThread("counter", self.fail, self.step, lambda: 0.0 if self.left > 0 else None)

    def step(self) -> None:
        self.left -= 1
        self.threads.add(threading.current_thread().name)

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    def set(self, steps: int) -> str:
        self.left = steps
        return threading.current_thread().name


STOPPED = RuntimeError("stopped")


def test_commands_and_steps_run_on_the_one_thread() -> None:
    counter = Countdown()
    counter.worker.start()
    assert counter.worker.call(lambda: counter.set(3), STOPPED).result(WAIT_S) == "counter"
    while counter.worker.call(lambda: counter.left, STOPPED).result(WAIT_S) > 0:
        pass
    counter.worker.stop()
    assert counter.threads == {"counter"} and not counter.failures


def test_an_exception_of_a_call_reaches_its_caller_only() -> None:
    counter = Countdown()
    counter.worker.start()
    with pytest.raises(ZeroDivisionError):
        counter.worker.call(lambda: 1 // 0, STOPPED).result(WAIT_S)
    assert counter.worker.call(lambda: "still there", STOPPED).result(WAIT_S) == "still there"
    counter.worker.stop()


def test_cancelled_call_is_not_made() -> None:
    counter = Countdown()
    call = counter.worker.call(lambda: counter.set(1), STOPPED)
    assert call.cancel()
    counter.worker.start()
    assert counter.worker.call(lambda: counter.left, STOPPED).result(WAIT_S) <= 0
    counter.worker.stop()


def test_a_call_after_stop_raises_that_the_worker_has_stopped() -> None:
    counter = Countdown()
    counter.worker.start()
    counter.worker.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        counter.worker.call(lambda: None, STOPPED).result(WAIT_S)
    assert not counter.worker.submit(lambda: None)


def test_calls_that_wait_when_a_step_fails_are_answered(caplog: pytest.LogCaptureFixture) -> None:
    """The call is queued by the failing step itself, so it is there when the loop ends."""
    waiting = []

    def step() -> None:
        waiting.append(worker.call(lambda: "done", STOPPED))
        raise OSError("the device is gone")

    counter = Countdown()
    worker = WorkerThread("device", counter.fail, step, lambda: 0.0)
    with caplog.at_level(logging.CRITICAL, logger="csm_bundle.runtime.worker_thread"):
        worker.start()
        assert counter.failed.wait(WAIT_S)
    with pytest.raises(RuntimeError, match="stopped"):
        waiting[0].result(WAIT_S)
    assert [str(error) for error in counter.failures] == ["the device is gone"]
    worker.stop()


def test_the_thread_sleeps_no_longer_than_the_step_asked_for() -> None:
    stepped = threading.Event()
    rests = iter([0.02])
    worker = WorkerThread("sleeper", print, stepped.set, lambda: next(rests, 0.0 if not stepped.is_set() else None))
    worker.start()
    assert stepped.wait(WAIT_S)
    worker.stop()


def test_a_thread_that_may_sleep_for_ten_thousand_years_is_woken_as_any_other() -> None:
    """A caller's playout lead is such a time: a google.protobuf.Duration may be longer than a thread can wait."""
    failures: list[BaseException] = []
    worker = WorkerThread("sleeper", failures.append, lambda: None, lambda: 315_576_000_000.0)
    worker.start()
    progress, until_s = worker.progress, time.monotonic() + 20
    while worker.progress < progress + 2 and not failures and time.monotonic() < until_s:
        worker.nudge()
        time.sleep(0.001)
    assert worker.call(lambda: "awake", STOPPED).result(WAIT_S) == "awake"
    worker.stop()
    assert not failures


def test_a_failure_is_reported_and_calls_fail_though_a_later_command_raises() -> None:
    counter, held = Countdown(), threading.Event()

    def broken() -> None:
        held.wait(WAIT_S)
        raise OSError("the device is gone")

    counter.worker.start()
    counter.worker.submit(broken)
    counter.worker.submit(broken)
    answer = counter.worker.call(lambda: "too late", STOPPED)
    held.set()
    assert counter.failed.wait(WAIT_S) and len(counter.failures) == 1
    assert answer.exception(WAIT_S) is STOPPED


def test_a_nudge_runs_the_loop_once_without_a_step() -> None:
    steps: list[int] = []
    worker = WorkerThread("idle", print, lambda: steps.append(1))
    worker.start()
    for _ in range(3):
        progress, until_s = worker.progress, time.monotonic() + 20
        while worker.progress == progress:
            worker.nudge()
            assert time.monotonic() < until_s
            time.sleep(0.001)
    worker.stop()
    assert steps == []


def test_a_thread_that_hangs_in_a_command_makes_no_progress() -> None:
    entered, go_on = threading.Event(), threading.Event()
    worker = WorkerThread("hung", print)
    worker.start()

    def hang() -> None:
        entered.set()
        go_on.wait(20)

    worker.submit(hang)
    assert entered.wait(20)
    progress = worker.progress
    worker.nudge()
    assert worker.progress == progress
    go_on.set()
    worker.stop()


def test_a_call_that_comes_just_before_the_stop_is_answered() -> None:
    """It is queued after the loop has run all commands, and before it looks whether it must end."""
    answers: list[Future[str]] = []

    class Commands(deque[Callable[[], None]]):
        armed = False

        def __bool__(self) -> bool:
            if self.armed and not len(self):
                self.armed = False
                answers.append(worker.call(lambda: "done", STOPPED))
                worker.stop()
                return False
            return len(self) > 0

    worker = WorkerThread("stepped by hand", print)
    commands = worker._commands = Commands()
    worker.submit(lambda: setattr(commands, "armed", True))
    worker._run()
    assert answers[0].exception(0) is STOPPED


def test_a_call_that_panics_fails_alone() -> None:
    class Panic(BaseException):
        """Such as a library written in Rust raises."""

    def panic() -> None:
        raise Panic("index out of bounds")

    counter = Countdown()
    counter.worker.start()
    with pytest.raises(RuntimeError, match="index out of bounds"):
        counter.worker.call(panic, STOPPED).result(WAIT_S)
    assert counter.worker.call(lambda: "still there", STOPPED).result(WAIT_S) == "still there"
    counter.worker.stop()
    assert not counter.failures


def test_stop_returns_although_the_thread_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.01, raising=False)
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        go_on.wait(20)

    worker = WorkerThread("hung", print, hang, lambda: 0.0)
    worker.start()
    assert entered.wait(WAIT_S)
    worker.stop()
    assert worker._thread.is_alive(), "it has been waited for"
    assert "the hung does not come back" in caplog.text
    go_on.set()
    worker._thread.join(WAIT_S)
    assert not worker._thread.is_alive()


def test_a_failure_is_reported_though_a_later_command_panics() -> None:
    """Otherwise the stage would stay ready without its thread."""

    class Panic(BaseException):
        """Such as a library written in Rust raises."""

    def fail() -> None:
        raise ZeroDivisionError

    def panic() -> None:
        raise Panic

    counter = Countdown()
    counter.worker.submit(fail)
    counter.worker.submit(panic)
    counter.worker.start()
    assert counter.failed.wait(WAIT_S)
    assert [type(error) for error in counter.failures] == [ZeroDivisionError]
