"""A gateway as a process with a memory limit, under calls from another process."""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from tests.support.fake_deployment import serve_stand_in, stage_targets
from tests.support.fake_stages import FakeCodec, FakeEngine
from tests.support.waits import eventually

MIB = 2**20
MEMORY_LIMIT_BYTES = 2**30  # of private memory that the process may allocate, as in a container
# The process sets its limit itself: Python code in a forked child (preexec_fn) sometimes crashes beside gRPC's threads.
LIMITED_GATEWAY = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY_LIMIT_BYTES}, {MEMORY_LIMIT_BYTES}))
runpy.run_module("services.gateway", run_name="__main__", alter_sys=True)
"""


@asynccontextmanager
async def limited_gateway(
    tmp_path: Path, codec: FakeCodec, engine: FakeEngine
) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """Yields the process and its address. codec, engine: the fakes behind it."""
    engine_server, codec_server = await serve_stand_in("engine", engine), await serve_stand_in("codec", codec)
    targets = stage_targets([engine_server], [codec_server])
    command = [
        *(sys.executable, "-c", LIMITED_GATEWAY, "--host=127.0.0.1", "--port=0", "--health-port=0"),
        *("--metrics-port=-1", "--code-sealing=open", "--stage-silence-seconds=60"),
        *(f"--{name.replace('_', '-')}={target}" for name, target in targets.items()),
    ]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, text=True, stderr=log)
    try:
        found = await eventually(lambda: re.search(r"api port (\d+)", (tmp_path / "log").read_text()))
        yield process, f"127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.wait()
        for server in (codec_server, engine_server):
            await server.drain(0)


def peak_rss_bytes(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


@dataclass(frozen=True)
class Load:
    """What many calls at the same time did to the gateway."""

    counts: list[int]  # printed by the sender
    p50_s: float  # of other calls meanwhile, infinite for a refused one
    p95_s: float  # of the same, in wall time: other load of the machine counts
    p95_cpu_s: float  # CPU time of the gateway during such a call: its time on an idle machine
    peak_rss_bytes: int  # of the gateway


async def load(
    tmp_path: Path, sender: str, *arguments: object, codec: FakeCodec, engine: FakeEngine | None = None
) -> Load:
    """Measures while `sender` runs: a program that gets the address and `arguments`, and prints numbers."""
    async with limited_gateway(tmp_path, codec, engine or FakeEngine()) as (process, target):
        async with grpc.aio.insecure_channel(target) as channel:
            tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
            request = tts_pb2.SynthesizeRequest(input=tts_pb2.SynthesisInput(text="Hello."))
            request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
            await tts.Synthesize(request, wait_for_ready=True, timeout=20)
            sending = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", sender, target, *map(str, arguments)),
                env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
                stdout=asyncio.subprocess.PIPE,
            )
            output = asyncio.ensure_future(sending.communicate())
            times_s, cpu_times_s = [], []
            while not output.done():
                began, cpu_began = time.monotonic(), cpu_s(process)
                try:
                    await tts.Synthesize(request, timeout=20)
                    times_s.append(time.monotonic() - began)
                    cpu_times_s.append(cpu_s(process) - cpu_began)
                except grpc.aio.AioRpcError:
                    times_s.append(math.inf)
                await asyncio.sleep(0.02)
            assert process.poll() is None
            counts = [int(number) for number in output.result()[0].split()]
            middle, late, busy = quantile(times_s, 0.5), quantile(times_s, 0.95), quantile(cpu_times_s, 0.95)
            return Load(counts, middle, late, busy, peak_rss_bytes(process))


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def cpu_s(process: subprocess.Popen[str]) -> float:
    """CPU time that all threads of the process have used."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
