"""A Python module as a child process, which prints its ports when it is ready."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START_S = 60.0


@asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `python -m module` until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def printed_ports(process: asyncio.subprocess.Process) -> list[int]:
    """The numbers on the next line that it prints. Raises TimeoutError; RuntimeError when it has ended."""
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process ended before it was ready")
    return [int(port) for port in line.split()]
