"""A benchmark that is terminated leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.tiny.bundle import write_tiny_bundle

PATIENCE_S = 120.0  # on a busy machine


@pytest.mark.parametrize(("told", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
async def test_a_signal_to_a_chaos_run_ends_its_stages(tmp_path: Path, told: signal.Signals, code: int) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    command = ["-m", "bench.chaos", "--bundle", str(tmp_path / "tiny"), "--logs", str(tmp_path / "logs")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    # A shell has what runs in its background ignore SIGINT, and its children with it.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    program = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, preexec_fn=heeds)
    stages: set[int] = set()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(stages := set(children(program.pid))) < 4:  # engines and codecs, long before they are ready
                assert program.returncode is None
                await asyncio.sleep(0.02)
            program.send_signal(told)
            await program.wait()
        assert not [pid for pid in stages if runs(pid)]
        assert program.returncode == code
    finally:
        for pid in (program.pid, *stages):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await program.wait()


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def runs(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
