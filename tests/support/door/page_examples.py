"""The example programs in a page's fenced code blocks, and how tests run them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.door.fake_door import FakeDoor

REPOSITORY = Path(__file__).parents[3]
PATHS = [str(REPOSITORY / part) for part in ("", "clients/python", "gen/python")]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def at(door: FakeDoor, program: str) -> str:
    """The program with the addresses and a voice of running servers in place of those of `make serve`."""
    program = program.replace("127.0.0.1:8000", door.url.removeprefix("http://"))
    return re.sub(r"\bslt\b", "ada", program.replace("127.0.0.1:50051", door.behind.target))


async def run(
    command: list[str], folder: Path, given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder`, for at most a minute. given: its standard input. environment: additional variables"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **environment}
    return await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        env=env,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def csm_on_path(folder: Path) -> str:
    """A value for PATH with this checkout's `csm` first. Writes a script into `folder`."""
    program = folder / "bin" / "csm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m csm_client "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"
