"""Signals at `csm`: none leaves a file, keeps the engine, or waits for a file."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def command(target: str, hangup: str = "SIG_DFL") -> list[str]:
    """hangup: what SIGHUP is when the program starts

    A shell without job control makes its background ignore interrupts, and children inherit that. It is undone in the
    program, not by preexec_fn: Python in a forked child crashes at times beside gRPC's threads.
    """
    heeding = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    heeding += f"; signal.signal(signal.SIGHUP, signal.{hangup})"
    run = f"{heeding}; runpy.run_module('csm_client', run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", run, "say", "Hello.", "--out", "x.wav", "--target", target]


@contextmanager
def saying(server: Any, folder: Path, hangup: str = "SIG_DFL") -> Iterator[subprocess.Popen[str]]:
    """The program once it has written some audio; the engine then makes no more."""
    server.deployment.engine.script.pause_at = 5
    run, environment = command(server.target, hangup), {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with subprocess.Popen(run, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "s of audio" not in (line := process.stderr.readline()):
            assert line, "The program has ended."
        yield process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_no_file_and_frees_the_engine(server: Any, tmp_path: Path, sent: int, code: int) -> None:
    with saying(server, tmp_path) as process:
        process.send_signal(sent)
        assert process.wait(20) == code
    server.do(lambda: server.deployment.engine.calls[0].ended.wait()).result(60)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_the_wait_for_a_reader_that_takes_nothing(server: Any, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    run, environment = command(server.target), {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    run[run.index("x.wav")] = "-"
    with subprocess.Popen(run, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE) as process:
        while select.select([], [writer], [], 0)[1]:  # until the pipe is full
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 143
        finally:
            process.kill()
    os.close(reader)
    os.close(writer)


def test_a_closed_terminal_leaves_no_file_and_frees_the_engine(server: Any, tmp_path: Path) -> None:
    """Nothing can be written there any more, not even why the program ends."""
    server.deployment.engine.script.pause_at = 5
    ours, terminal = pty.openpty()
    adopt = f"import os; os.close(os.open({os.ttyname(terminal)!r}, os.O_RDWR)); "  # of a session that has none
    run = command(server.target)
    run[2] = adopt + run[2]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    with subprocess.Popen(run, cwd=tmp_path, env=environment, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        shown = b""
        while b"s of audio" not in shown:
            shown += os.read(ours, 1024)
        os.close(ours)
        assert process.wait(20) != 0
    server.do(lambda: server.deployment.engine.calls[0].ended.wait()).result(60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["say", "Hello.", "--context", "fifo"],
        ["say", "Hello.", "--token-file", "fifo"],
        ["voices", "add", "ann", "--audio", "fifo"],
        ["detect", "fifo"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("has_writer", [False, True])
def test_a_signal_ends_the_wait_for_a_file_that_never_ends(
    server: Any, tmp_path: Path, words: list[str], has_writer: bool
) -> None:
    os.mkfifo(tmp_path / "fifo")
    run, environment = command(server.target), {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    # The signal comes once the file is being opened or read, not while Python starts.
    telling = "lambda event, values: event == 'open' and str(values[0]) == 'fifo' and os.write(1, b'opens\\n')"
    run[2] = f"import os, sys; sys.addaudithook({telling}); {run[2]}"
    run[3:] = [*words, "--target", server.target]
    with subprocess.Popen(run, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "opens\n"
        writer = os.open(tmp_path / "fifo", os.O_WRONLY) if has_writer else None
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 143
        finally:
            process.kill()
    if writer is not None:
        os.close(writer)


def test_sighup_is_ignored_under_nohup(server: Any, tmp_path: Path) -> None:
    with saying(server, tmp_path, hangup="SIG_IGN") as process:
        process.send_signal(signal.SIGHUP)
        server.do(server.deployment.engine.script.resume.set)
        assert process.wait(60) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
