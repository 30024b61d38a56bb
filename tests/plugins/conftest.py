"""A server for the plugins: a program of its own, because the frameworks want other packages than the stages do.

CSM_SERVER_PYTHON names the interpreter that has the stages' packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = (".", "gen/python", "clients/python")
WAIT_S = 60
TOKEN = "t" * 43


@dataclass(frozen=True)
class Gateway:
    """tests.plugins.fake_gateway.py, running. Each call makes 0.8 s of audio for each sentence."""

    process: subprocess.Popen[str]
    target: str
    url: str  # of the HTTP door
    token: str = ""  # that callers must show

    def tell(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def calls(self) -> list[tuple[str, str]]:
        """Of each call of the engine its text, and "open" or "ended" with the type of its error."""
        return [(text, state) for text, state in json.loads(self.tell("calls"))]

    def wait_until_called(self) -> None:
        """Returns once the engine has a call."""
        until_s = time.monotonic() + WAIT_S
        while not self.calls():
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def wait_until_begun(self) -> None:
        """Returns once the door has sent the status of an answer, because there was first audio."""
        until_s = time.monotonic() + WAIT_S
        while self.tell("begun") == "0":
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def wait_until_ended(self) -> list[tuple[str, str]]:
        """The calls, once none is open."""
        until_s = time.monotonic() + WAIT_S
        calls = self.calls()
        while any(state == "open" for _, state in calls):
            assert time.monotonic() < until_s, calls
            time.sleep(0.05)
            calls = self.calls()
        return calls


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running() as gateway:
        yield gateway


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Gateway]:
    """One that wants a token of its callers."""
    entry = {"name": "shop", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    (tmp_path / "tokens.json").write_text(json.dumps([entry]))
    with running(str(tmp_path / "tokens.json")) as gateway:
        yield gateway


@contextmanager
def running(*arguments: str) -> Iterator[Gateway]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in PATHS)}
    command = [os.environ.get("CSM_SERVER_PYTHON", sys.executable), "-m", "tests.plugins.fake_gateway", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            where = json.loads(process.stdout.readline())
            yield Gateway(process, where["target"], where["url"], TOKEN if arguments else "")
        finally:
            process.kill()
