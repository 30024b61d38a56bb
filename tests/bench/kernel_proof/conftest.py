"""Runs programs that compile kernels in separate processes, as this one interprets kernels."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
numbers = itertools.count()


@pytest.fixture(scope="session")
def forks() -> Iterator[subprocess.Popen[str]]:
    """forks.py, running."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.kernel_proof.forks"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def compiling(forks: subprocess.Popen[str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with these arguments."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        assert forks.stdin is not None and forks.stdout is not None
        number, stdout, stderr = next(numbers), tmp_path / "stdout", tmp_path / "stderr"
        program = {"number": number, "arguments": arguments, "stdout": str(stdout), "stderr": str(stderr)}
        print(json.dumps(program), file=forks.stdin, flush=True)
        ended, code = -1, 0
        while ended != number:  # one that a test did not wait for may end before
            ended, code = map(int, forks.stdout.readline().split())
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())

    return run
