"""An all-in-one server as a child process, with temporary watermark keys."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

START_TIMEOUT_S = 600.0  # a large bundle loads for minutes
STOP_TIMEOUT_S = 30.0
READY = "Ready on "


@asynccontextmanager
async def own_server(bundle: str, options: Sequence[str], log: Path | None = None) -> AsyncIterator[str]:
    """Yields the server's "host:port". options: more command line options. log: file for its log; None discards it.

    Raises RuntimeError with the end of the log when it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder, "server.log")
        command = [
            sys.executable, "-m", "services.all_in_one", "--bundle", bundle, "--host", "127.0.0.1", "--port", "0",
            "--http-port", "-1", "--health-port", "0", "--metrics-port", "-1", "--drain-seconds", "5",
            "--watermark-keyring", str(Path(folder, "keys.json")), *options,
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # it finds what we find
        with log.open("w") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment, start_new_session=True
            )
        try:
            yield await _ready(process, log)
        finally:
            await _stop(process)


async def _ready(process: asyncio.subprocess.Process, log: Path) -> str:
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            async for line in process.stdout:
                if line.startswith(READY.encode()):
                    return line.decode().removeprefix(READY).split()[0].rstrip(".")
    raise RuntimeError(f"The server did not start. Its log ends with:\n{log.read_text()[-2000:]}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Drains it, or kills it when that takes too long."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
