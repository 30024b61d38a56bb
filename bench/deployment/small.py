"""A small deployment of processes: an engine, a codec, a gateway and, if asked for, an HTTP door."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.deployment.process import StageProcess

SETTLE_S = 30.0
GAUGES = (
    "engine_active_slots", "engine_queue_depth", "codec_active_streams", "codec_waiting_streams",
    "tts_running_requests",
)  # fmt: skip
# glibc settings, in bytes. Large freed blocks are returned to the system at once, so that resident memory is memory in
# use. By default glibc keeps blocks as large as the largest recording so far.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


async def start_small(
    stack: AsyncExitStack,
    bundle: Path,
    folder: Path,
    engine_options: Sequence[str] = (),
    *,
    http: bool = False,
    counts: bool = False,
) -> dict[str, StageProcess]:
    """Starts the processes, which end with `stack`. Returns them by name when they are ready.

    folder: for logs, keys and the voices' database. counts: whether StageProcess.in_use works.
    """
    common = ["--bundle", str(bundle), "--threads", "1", "--slots", "4"]
    prefix = [sys.executable, "-m", "bench.deployment.counting"] if counts else []
    stages: dict[str, StageProcess] = {}

    async def begin(name: str, options: Sequence[str]) -> None:
        process = StageProcess(name, 0, options, folder, prefix=prefix, environment=ALLOCATOR)
        stages[name] = await stack.enter_async_context(process.running())

    await begin("engine", [*common, *engine_options])
    await begin("codec", [*common, "--watermark-keyring", str(folder / "marks.json")])
    files = ["--code-sealing-keyring", str(folder / "seals.json"), "--voices-database", str(folder / "voices.sqlite")]
    await begin("gateway", [*files, *stages["engine"].call_options, *stages["codec"].call_options])
    if http:
        await begin("http", stages["gateway"].call_options)
    for process in stages.values():
        await process.wait_ready()
    return stages


async def settled_slots(stages: dict[str, StageProcess]) -> dict[str, dict[str, float]]:
    """Waits until no slot is taken, at most SETTLE_S. Returns the gauges of taken slots by process."""
    until_s = time.monotonic() + SETTLE_S
    while True:
        slots = {name: await stage.gauges(*GAUGES) for name, stage in stages.items() if stage.is_alive}
        if not any(value for gauges in slots.values() for value in gauges.values()) or time.monotonic() > until_s:
            return slots
        await asyncio.sleep(0.5)
