"""The disturbed deployment: two gateways, two engines and two codecs, with a link in front of each.

Gateways call stages over TLS. Without it a corrupted byte would not be noticed: a changed code is another code.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.deployment.process import StageProcess, call_options, target_of
from tests.support.authority import Authority, write_pair
from tests.support.network.tcp_relay import TcpRelay

SLOTS = 4
WAITING = 4
LEAD_S = 1.0  # --max-playout-lead-seconds: a stream then lasts as long as its audio
MAX_FAILOVERS = 20  # of a stream; faults are far more frequent here than in production
FAILOVER_WAIT_S = 120.0  # the other replica may be starting, on a busy machine
DRAIN_S = 300  # so that a drain ends no stream, even on a busy machine

SLOT_GAUGES = {
    "engine": ("engine_active_slots", "engine_queue_depth"),
    "codec": ("codec_active_streams", "codec_waiting_streams"),
    "gateway": ("tts_running_requests",),
}


@dataclass(frozen=True)
class Replica:
    """One process of a stage, and the links that lead to it."""

    stage: str
    process: StageProcess
    api: TcpRelay
    health: TcpRelay

    async def start(self) -> None:
        """Starts the process, the first time or again, and returns when it listens."""
        await self.process.start()
        self.api.target_port, self.health.target_port = self.process.api_port, self.process.health_port

    async def restart(self) -> None:
        await self.start()
        await self.process.wait_ready()

    @property
    def links(self) -> tuple[TcpRelay, TcpRelay]:
        return self.api, self.health


@dataclass(frozen=True)
class Cluster:
    """All replicas by stage, and optionally an HTTP door in front of the gateways, which no fault strikes."""

    replicas: dict[str, list[Replica]]
    credentials: grpc.ChannelCredentials
    door: StageProcess | None

    @property
    def all(self) -> list[Replica]:
        return [replica for replicas in self.replicas.values() for replica in replicas]

    @property
    def processes(self) -> list[StageProcess]:
        return [replica.process for replica in self.all] + ([self.door] if self.door else [])

    @property
    def gateway_target(self) -> str:
        return target_of(replica.api.port for replica in self.replicas["gateway"])

    def direct_channel(self, replica: Replica) -> grpc.aio.Channel:
        """A channel to an engine or codec that bypasses its link."""
        return grpc.aio.secure_channel(f"127.0.0.1:{replica.process.api_port}", self.credentials)

    def rss_mb(self) -> dict[str, float]:
        return {process.name: process.rss_mb() for process in self.processes}

    def tracebacks(self) -> dict[str, int]:
        """The number of tracebacks in the log, by process."""
        return {process.name: process.tracebacks() for process in self.processes}

    async def slots(self) -> dict[str, float]:
        """The number of taken slots and queue places, by process."""
        taken = {}
        for replica in self.all:
            gauges = await replica.process.gauges(*SLOT_GAUGES[replica.stage])
            taken[replica.process.name] = sum(gauges.values())
        return taken


def options_of_callers(replicas: list[Replica]) -> list[str]:
    """Options of a process that calls a stage's replicas through their links."""
    target = target_of(replica.api.port for replica in replicas)
    return call_options(replicas[0].stage, target, target_of(replica.health.port for replica in replicas))


@asynccontextmanager
async def running_cluster(
    bundle: Path, folder: Path, seed: int, *, sentence_s: float | None = None, door: bool = False
) -> AsyncIterator[Cluster]:
    """Yields the cluster when every process is ready.

    folder: for logs, keys and certificates. sentence_s: longest audio of an utterance; None is the gateways' default.
    """
    authority = Authority()
    numbers = itertools.count(seed)
    async with AsyncExitStack() as stack:

        async def linked(stage: str, number: int, options: list[str]) -> Replica:
            replica = Replica(
                stage,
                StageProcess(stage, number, options, folder),
                TcpRelay(seed=next(numbers)),
                TcpRelay(seed=next(numbers)),
            )
            for link in replica.links:
                await link.start()
                stack.push_async_callback(link.stop)
            stack.push_async_callback(replica.process.kill)
            return replica

        replicas = {}
        for stage in ("engine", "codec"):
            certificate = folder / stage
            options = [*stage_options(stage, bundle, folder), "--tls-certificate", str(certificate / "tls.crt")]
            options += ["--tls-key", str(certificate / "tls.key")]
            replicas[stage] = [await linked(stage, number, options) for number in range(2)]
            write_pair(certificate, *authority.issue())
        await asyncio.gather(*(replica.start() for stage in replicas.values() for replica in stage))
        options = gateway_options(replicas, authority.write_ca(folder), folder)
        if sentence_s is not None:
            options += ["--max-utterance-audio-seconds", str(sentence_s)]
        replicas["gateway"] = [await linked("gateway", number, options) for number in range(2)]
        for replica in replicas["gateway"]:  # one after the other: the first one creates the keyring
            await replica.start()
        at_door = None
        if door:
            process = StageProcess("http", 0, options_of_callers(replicas["gateway"]), folder)
            at_door = await stack.enter_async_context(process.running())
        cluster = Cluster(replicas, grpc.ssl_channel_credentials(authority.pem), at_door)
        await asyncio.gather(*(process.wait_ready() for process in cluster.processes))
        yield cluster


def stage_options(stage: str, bundle: Path, folder: Path) -> list[str]:
    common = ["--bundle", str(bundle), "--threads", "1", "--slots", str(SLOTS), "--drain-seconds", str(DRAIN_S)]
    if stage == "codec":
        return [*common, "--max-waiting-streams", str(WAITING), "--watermark-keyring", str(folder / "marks.json")]
    return [
        *common, "--max-waiting", str(WAITING), "--max-playout-lead-seconds", str(LEAD_S), "--max-batch-frames", "2",
        "--constant-shape",
    ]  # fmt: skip


def gateway_options(replicas: dict[str, list[Replica]], authority: Path, folder: Path) -> list[str]:
    options = ["--stage-tls-ca", str(authority), "--code-sealing-keyring", str(folder / "seals.json")]
    options += ["--max-failovers", str(MAX_FAILOVERS), "--failover-wait-seconds", str(FAILOVER_WAIT_S)]
    options += ["--drain-seconds", str(DRAIN_S)]
    return options + options_of_callers(replicas["engine"]) + options_of_callers(replicas["codec"])
