"""Processes that browsers need: a virtual loudspeaker and a virtual screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAIT_S = 30


def lacking(*programs: str, packages: str) -> str:
    """Which of the programs this machine lacks; "" if none. packages: Debian's that have them."""
    lacks = [name for name in programs if shutil.which(name) is None]
    return f"no {' and no '.join(lacks)}; on Debian: apt-get install {packages}" if lacks else ""


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process without output, which ends with the block."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(file: Path) -> None:
    """Waits until the file has content or is a socket. Raises TimeoutError."""
    until = time.monotonic() + _WAIT_S
    while not (file.exists() and (file.is_socket() or file.stat().st_size)):
        if time.monotonic() > until:
            raise TimeoutError(f"{file} has not come.")
        time.sleep(0.05)


@contextmanager
def loudspeaker() -> Iterator[dict[str, str]]:
    """Runs a PulseAudio that discards sound. Yields the environment variables with which programs use it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        socket = Path(folder) / "pulse"
        modules = ["module-null-sink", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={name}" for name in modules)]
        own = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH"), folder)
        with running(command, env={**os.environ, **own}):
            wait_for(socket)
            yield {"PULSE_SERVER": f"unix:{socket}"}


@contextmanager
def screen(width: int, height: int) -> Iterator[dict[str, str]]:
    """Runs an Xvfb. Yields the environment variables with which programs open their windows there."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with running(command, pass_fds=[write]), os.fdopen(read) as answer:
        os.close(write)
        yield {"DISPLAY": f":{answer.readline().strip()}"}
