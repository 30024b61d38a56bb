"""SIGTERM and SIGINT before a stage serves, and a second time.

In processes of their own, also as process 1 of a PID namespace as in a container.
"""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from services.common.process import stop
from services.common.process.stop import SIGNALS, end_at_once

ROOT = Path(__file__).parents[4]
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
PROGRAMS = ("all_in_one", "codec", "engine", "gateway", "http")
# The first import after the program's own module never ends: stands for a slow import of torch.
WITHOUT_END = """
import sys, time
from services.{module} import main
class Slow:
    def find_spec(self, name, path=None, target=None):
        print("importing", flush=True)
        time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.exit(main())
"""
# A thread that loads and does not end, as the compiler of kernels does not when it is asked.
LOADING = """
import asyncio, time
from services.common.process.run import run_stage
from services.common.process.stop import end_at_signals
def load():
    print("loading", flush=True)
    time.sleep(60)
end_at_signals()
run_stage(lambda: asyncio.to_thread(load))
"""
# A stage, up to what it does at its end.
STAGE = """
import asyncio, atexit, time
from csm_bundle.runtime import worker_thread
from services.common.process.run import run_stage
async def start():
    return Stage()
class Stage:
    @property
    def server(self):
        return self
    async def wait_failed(self):
        print("serving", flush=True)
        await asyncio.Event().wait()
    async def stop(self):
"""
# A drain that does not end.
DRAINING = f"""{STAGE}
        print("draining", flush=True)
        await asyncio.Event().wait()
run_stage(start)
"""
# A stage that logs.
LOGGING = f"""{STAGE}
        print("draining", flush=True)
from services.common.telemetry.logs import configure_logging
configure_logging("text", "info")
run_stage(start)
"""
# A worker that does not come back from its step, as from one of a broken device.
LEFT_BEHIND = f"""{STAGE}
        worker.stop()
atexit.register(print, "the interpreter is taken down")
worker_thread.STOP_S = 0.01
worker = worker_thread.WorkerThread("worker", print, lambda: time.sleep(60), lambda: 0.0)
worker.start()
run_stage(start)
"""


def can_unshare() -> bool:
    command = [*AS_PROCESS_1, "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=["process 1", "any process"])
def prefix(request: pytest.FixtureRequest) -> Sequence[str]:
    if request.param == "any process":
        return ()
    if not can_unshare():
        pytest.skip("a PID namespace cannot be made here")
    return AS_PROCESS_1


class Running:
    """A Python program, alone or as process 1 of its namespace."""

    def __init__(self, process: subprocess.Popen[str], inside: bool) -> None:
        self.process = process
        self._inside = inside

    def says(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line + "\n"

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself, not to the parent that made its namespace."""
        pid = self.process.pid
        if self._inside:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        os.kill(pid, number)


@contextmanager
def running(program: str, prefix: Sequence[str], stderr: int = subprocess.PIPE) -> Iterator[Running]:
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/gen/python:{ROOT}/clients/python", "PATH": os.environ["PATH"]}
    command = [*prefix, sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            yield Running(process, bool(prefix))
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    """Waits for the program's end. Returns what it wrote to standard error."""
    assert process.stderr is not None
    return process.stderr.read()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_signal_while_a_program_imports_ends_it_with_zero_and_no_traceback(
    name: str, number: signal.Signals, prefix: Sequence[str]
) -> None:
    with running(WITHOUT_END.format(module=f"{name}.__main__"), prefix) as program:
        program.says("importing")
        program.send(number)
        assert program.process.wait(20) == 0
        assert told(program.process) == ""


def test_ctrl_c_while_make_say_imports_ends_it_as_later_on(prefix: Sequence[str]) -> None:
    with running(WITHOUT_END.format(module="all_in_one.say"), prefix) as program:
        program.says("importing")
        program.send(signal.SIGINT)
        assert program.process.wait(20) == 130
        assert told(program.process) == "interrupted\n"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_while_a_thread_loads_ends_the_program_with_zero(
    number: signal.Signals, prefix: Sequence[str]
) -> None:
    with running(LOADING, prefix) as program:
        program.says("loading")
        program.send(number)
        assert program.process.wait(20) == 0
        assert told(program.process) == ""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_second_signal_ends_a_drain_at_once(number: signal.Signals, prefix: Sequence[str]) -> None:
    with running(DRAINING, prefix) as program:
        program.says("serving")
        program.send(number)
        program.says("draining")
        program.send(number)
        assert program.process.wait(20) == 128 + number
        assert told(program.process) == ""


def test_a_program_ends_with_zero_around_a_thread_that_hangs(prefix: Sequence[str]) -> None:
    """Without the end of the interpreter, on which a thread in native code crashes."""
    with running(LEFT_BEHIND, prefix) as program:
        program.says("serving")
        program.send(signal.SIGTERM)
        assert program.process.wait(20) == 0
        assert program.process.stdout is not None and program.process.stdout.read() == ""


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What happens at the end of the process, which is not ended: what is written, and the exit code."""
    order, has_ended = list[object](), threading.Event()

    def end(code: int) -> NoReturn:
        order.append(code)
        has_ended.set()
        raise SystemExit

    def write_log() -> None:
        if not has_ended.wait(0.1):
            order.append("log")

    def fail() -> None:
        raise ValueError("I/O operation on closed file")

    handlers = [SimpleNamespace(flush=fail), SimpleNamespace(flush=write_log)]
    output = SimpleNamespace(flush=lambda: order.append("output"))
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(stop, "logging", SimpleNamespace(getLogger=lambda: SimpleNamespace(handlers=handlers)))
    monkeypatch.setattr(stop, "sys", SimpleNamespace(stdout=output, stderr=None))  # as without a console
    monkeypatch.setattr(stop, "FLUSH_S", threading.TIMEOUT_MAX)
    return order


def test_all_that_is_left_is_written_before_the_end_also_while_a_thread_begins(order: list[object]) -> None:
    """The signal's handler may have interrupted `threading` while it held its lock."""
    with threading._active_limbo_lock, pytest.raises(SystemExit):  # type: ignore[attr-defined]
        end_at_once(3)
    assert order == ["log", "output", 3]


def test_a_process_that_cannot_begin_a_thread_ends(order: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", fail)
    with pytest.raises(SystemExit):
        end_at_once(3)
    assert order == [3]


def test_a_program_drains_and_ends_although_nobody_reads_its_log(prefix: Sequence[str]) -> None:
    """As when the container's runtime hangs, or standard error is a file in a file system that does."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        for size in (2**16, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(writer, bytes(size))
        os.set_blocking(writer, True)
        with running(LOGGING, prefix, writer) as program:
            program.says("serving")
            program.send(signal.SIGTERM)
            program.says("draining")
            assert program.process.wait(60) == 0
    finally:
        os.close(reader)
        os.close(writer)
