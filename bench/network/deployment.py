"""A gateway in this network namespace, an engine and a codec in one each, and the relays between them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.deployment.process import StageProcess
from bench.network.relay import ip

ANSWER_S = 30.0
FAR_STAGES = ("engine", "codec")


def why_not() -> str:
    """Why this machine cannot create namespaces and TUN devices; "" when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "there is no /dev/net/tun"
    try:
        subprocess.run(["ip", "-Version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "there is no `ip` (Debian: apt-get install iproute2)"
    return ""


@dataclass(frozen=True)
class Way:
    """The network between the gateway and one stage."""

    process: asyncio.subprocess.Process

    async def set(self, delay_ms: float, loss: float) -> tuple[int, int]:
        """Sets delay and share of lost packets, in each direction. Returns (bytes to the stage, bytes back) before."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{delay_ms} {loss}\n".encode())
        async with asyncio.timeout(ANSWER_S):
            answer = await self.process.stdout.readline()
        there, back = map(int, answer.split())
        return there, back


@dataclass(frozen=True)
class FarStages:
    """A deployment with a slow network between the gateway and the other stages."""

    stages: dict[str, StageProcess]  # with the gateway
    ways: dict[str, Way]  # by far stage

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.stages['gateway'].api_port}"

    async def set(self, delay_ms: float, loss: float) -> dict[str, tuple[int, int]]:
        """`Way.set` for every way."""
        return {stage: await way.set(delay_ms, loss) for stage, way in self.ways.items()}


@asynccontextmanager
async def far_stages(bundle: Path, folder: Path) -> AsyncIterator[FarStages]:
    """Yields the deployment when it is ready, and removes namespaces and devices afterwards. folder: logs and keys."""
    async with AsyncExitStack() as stack:
        ways, stages = {}, {}
        for number, stage in enumerate(FAR_STAGES, 1):
            namespace, near, far = f"csm-bench-{os.getpid()}-{stage}", f"10.77.{number}.1", f"10.77.{number}.2"
            ip("netns", "add", namespace)
            stack.callback(ip, "netns", "delete", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
            ways[stage] = Way(await _relay(namespace, near, far, stack))
            await ways[stage].set(0, 0)  # answered when the devices are there
            options = ["--bundle", str(bundle), "--threads", "1"]
            options += ["--watermark-keyring", str(folder / "marks.json")] if stage == "codec" else []
            prefix = ("ip", "netns", "exec", namespace)
            process = StageProcess(stage, 0, options, folder, host=far, prefix=prefix)
            stages[stage] = await stack.enter_async_context(process.running())
        options = [option for process in stages.values() for option in process.call_options]
        gateway = StageProcess("gateway", 0, ["--code-sealing-keyring", str(folder / "seals.json"), *options], folder)
        stages["gateway"] = await stack.enter_async_context(gateway.running())
        await asyncio.gather(*(stage.wait_ready() for stage in stages.values()))
        yield FarStages(stages, ways)


async def _relay(namespace: str, near: str, far: str, stack: AsyncExitStack) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.network.relay", namespace, near, far,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process
