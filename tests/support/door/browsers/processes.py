"""What browsers need beside them: a loudspeaker that nobody hears, and a screen that nobody sees."""

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
    """What this machine lacks of these; "" if nothing. packages: that Debian has them in"""
    lacks = [name for name in programs if shutil.which(name) is None]
    return f"no {' and no '.join(lacks)}; on Debian: apt-get install {packages}" if lacks else ""


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says nothing and ends with the block."""
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
    """Raises TimeoutError."""
    until = time.monotonic() + _WAIT_S
    while not (file.exists() and (file.is_socket() or file.stat().st_size)):
        if time.monotonic() > until:
            raise TimeoutError(f"{file} has not come.")
        time.sleep(0.05)


@contextmanager
def loudspeaker() -> Iterator[dict[str, str]]:
    """Environment variables under which programs play to a PulseAudio of their own that throws the sound away."""
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
    """Environment variables under which programs open their windows in an Xvfb of their own."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with running(command, pass_fds=[write]), os.fdopen(read) as answer:
        os.close(write)
        yield {"DISPLAY": f":{answer.readline().strip()}"}
