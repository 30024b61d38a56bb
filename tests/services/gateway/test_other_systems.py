"""The gateway without Linux below it, as far as that can be imitated on Linux: what macOS lacks is taken away.

A kernel without epoll, /proc and a choice of CPUs; a C library that is not glibc; a limit of open files that is called
infinite and is not. None of this is a run on a Mac.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import open_encoder
from tests.services.gateway.audio.speech_like import NATURAL_HZ, encode, frames, speech_like

AS_ON_MACOS = """
import ctypes, os, resource, runpy, select
del select.epoll, os.sched_setaffinity, os.sched_getaffinity
os.process_cpu_count = os.cpu_count  # of Python 3.13 and later, as it is without a choice of CPUs
class Library: pass
load, opened, limits = ctypes.CDLL, os.open, [(256, resource.RLIM_INFINITY)]
def refuse_proc(path, *rest, **named):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return opened(path, *rest, **named)
def set_limit(which, new):
    if new[0] > 61440:
        raise ValueError("current limit exceeds maximum limit")
    limits.append(new)
ctypes.CDLL = lambda name, *rest, **named: Library() if name is None else load(name, *rest, **named)
os.open = refuse_proc
resource.getrlimit, resource.setrlimit = lambda which: limits[-1], set_limit
runpy.run_module("services.gateway", run_name="__main__", alter_sys=True)
"""


def test_a_gateway_starts_and_drains(tmp_path: Path) -> None:
    ports = ["--host=127.0.0.1", "--port=0", "--health-port=0", "--metrics-port=-1"]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", AS_ON_MACOS, *ports]
    lines = []
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "listening on" in line:
                break
        process.send_signal(signal.SIGTERM)
        lines += process.stderr
        assert process.wait(20) == 0
    log = "".join(lines)
    assert "--max-heap-bytes is off: the C library is not glibc" in log
    assert "files may be open" not in log and "Traceback" not in log


@pytest.mark.parametrize("encoding", ["OGG_OPUS", "MP3", "AAC"])
def test_encoders_make_the_same_where_no_cpu_can_be_chosen(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    pieces = frames(speech_like(NATURAL_HZ, NATURAL_HZ))
    number = getattr(tts_pb2, f"AUDIO_ENCODING_{encoding}")
    made = [encode(open_encoder(number, NATURAL_HZ, NATURAL_HZ, serial=1), pieces)]
    monkeypatch.delattr(os, "sched_setaffinity")
    made.append(encode(open_encoder(number, NATURAL_HZ, NATURAL_HZ, serial=1), pieces))
    assert made[0] == made[1]
