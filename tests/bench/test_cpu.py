"""The CPU time of another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.deployment.cpu import process_cpu_s

WORK_S = 0.003  # less than one tick of /proc
PROGRAM = f"""
import sys, time
print("ready", flush=True)
sys.stdin.readline()
begun_s = time.process_time()
while time.process_time() - begun_s < {WORK_S}:
    pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""


def test_work_of_less_than_a_tick_is_counted() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before_s = process_cpu_s(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        own_s = float(process.stdout.readline())
        after_s = process_cpu_s(process.pid)
        process.stdin.close()
    assert before_s + WORK_S <= own_s <= after_s < own_s + WORK_S


def test_cpu_time_of_this_process_matches_python_s() -> None:
    before_s = time.process_time()
    assert before_s <= process_cpu_s(os.getpid()) <= time.process_time()


def test_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match=f"process {process.pid}"):
        process_cpu_s(process.pid)
