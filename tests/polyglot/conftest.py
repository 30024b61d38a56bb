"""A server for clients in other languages: the fake one, as a process of its own that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class FakeServer:
    """The running process and where it listens."""

    process: subprocess.Popen[str]
    target: str


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    path = os.pathsep.join([str(REPOSITORY / "gen" / "python"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fake_server.py"))],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield FakeServer(process, f"127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


@pytest.fixture
def target(request: pytest.FixtureRequest) -> str:
    """The server under test: the one at CSM_POLYGLOT_TARGET, or else the fake one."""
    given = os.environ.get("CSM_POLYGLOT_TARGET")
    if given:
        return given
    server: FakeServer = request.getfixturevalue("fake_server")
    return server.target
