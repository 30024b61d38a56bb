"""A Python module as a child process, which prints its ports when it is ready."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc

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


@asynccontextmanager
async def served(module: str, *arguments: str) -> AsyncIterator[tuple[grpc.aio.Channel, int]]:
    """A program that prints the port of its gRPC server: a channel to it, and the process's number."""
    async with program(module, *arguments) as running:
        (port,) = await printed_ports(running)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, running.pid


def flags(options: Mapping[str, object]) -> list[str]:
    """The options of a program, by name, as words of its command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


async def printed_ports(process: asyncio.subprocess.Process) -> list[int]:
    """The numbers on the next line that it prints. Raises TimeoutError; RuntimeError when it has ended."""
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process ended before it was ready")
    return [int(port) for port in line.split()]
