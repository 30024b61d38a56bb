"""The faults: each strikes one replica, lasts a while and heals. This module knows no streams."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from bench.chaos.cluster import SLOTS, WAITING, Cluster, Replica

FREEZE_S = 6.0  # longer than the silence after which a stage counts as lost
SHORT_S = 2.0  # freeze of a gateway, which clients notice only by their keepalive
DELAY_S = 0.2  # added to each piece on a slow link
DELAYED_S = 5.0
FULL_S = 5.0
CALM_S = 2.0  # until the next fault of the same stage, in which gateways reconnect


@dataclass(frozen=True)
class FaultRecord:
    """One fault that has healed."""

    kind: str  # "kill engine"
    from_s: float  # on the monotonic clock
    until_s: float
    replica: str  # "engine 0"

    @property
    def stage(self) -> str:
        return self.replica.rpartition(" ")[0]


async def kill(cluster: Cluster, replica: Replica) -> None:
    """kill -9, then a new process."""
    await replica.process.kill()
    await replica.restart()


async def freeze(cluster: Cluster, replica: Replica) -> None:
    """SIGSTOP, then SIGCONT."""
    replica.process.freeze()
    try:
        await asyncio.sleep(SHORT_S if replica.stage == "gateway" else FREEZE_S)
    finally:
        replica.process.thaw()


async def restart(cluster: Cluster, replica: Replica) -> None:
    """SIGTERM and its drain, then a new process."""
    await replica.process.stop()
    await replica.restart()


async def cut(cluster: Cluster, replica: Replica) -> None:
    for link in replica.links:
        link.cut()


async def black_hole(cluster: Cluster, replica: Replica) -> None:
    for link in replica.links:
        link.set_black_hole(True)
    try:
        await asyncio.sleep(SHORT_S if replica.stage == "gateway" else FREEZE_S)
    finally:
        for link in replica.links:
            link.set_black_hole(False)


async def delay(cluster: Cluster, replica: Replica) -> None:
    replica.api.delay_s = DELAY_S
    await asyncio.sleep(DELAYED_S)
    replica.api.delay_s = 0.0


async def corrupt(cluster: Cluster, replica: Replica) -> None:
    """Flips one bit in each of the next two pieces of TLS, in either direction."""
    before = replica.api.num_corrupted
    replica.api.pieces_to_corrupt = 2
    async with asyncio.timeout(120):  # health checks and keepalive send bytes even without streams
        while replica.api.num_corrupted == before:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    replica.api.pieces_to_corrupt = 0


async def fill(cluster: Cluster, replica: Replica) -> None:
    """Takes every slot and every place in the queue."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(cluster.direct_channel(replica))
        for _ in range(SLOTS + WAITING + 2):
            call = _engine_call(channel) if replica.stage == "engine" else await _codec_call(channel)
            stack.callback(call.cancel)
        await asyncio.sleep(FULL_S)


def _engine_call(channel: grpc.aio.Channel) -> Any:
    request = engine_pb2.GenerateRequest(
        segments=[engine_pb2.Segment(text="It takes all the room there is.")],
        sampling_params=engine_pb2.SamplingParams(seed=1),
        max_frame_count=500,
        live=True,
    )
    return engine_pb2_grpc.EngineServiceStub(channel).Generate(request, timeout=60)


async def _codec_call(channel: grpc.aio.Channel) -> Any:
    call: Any = codec_pb2_grpc.CodecServiceStub(channel).StreamDecode(timeout=60)
    config = codec_pb2.StreamDecodeConfig(sample_format=codec_pb2.SAMPLE_FORMAT_S16LE)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(codec_pb2.StreamDecodeRequest(config=config))
    return call


Fault = Callable[[Cluster, Replica], Awaitable[None]]

OF_STAGES: dict[str, Fault] = {
    "kill": kill, "freeze": freeze, "restart": restart, "cut": cut, "black hole": black_hole, "delay": delay,
    "corrupt": corrupt, "full": fill,
}  # fmt: skip
# A gateway has no queue, and its clients use plaintext here, which would not notice corruption.
OF_GATEWAYS = {kind: fault for kind, fault in OF_STAGES.items() if kind not in ("full", "corrupt")}


class Saboteur:
    """Strikes one stage, one replica at a time, so that the other replica always works."""

    def __init__(self, cluster: Cluster, stage: str, seed: int) -> None:
        self.struck: list[FaultRecord] = []
        self._cluster, self._stage = cluster, stage
        self._random = random.Random(f"{seed} {stage}")
        self._faults = OF_GATEWAYS if stage == "gateway" else OF_STAGES

    async def run(self, may_strike: Callable[[], bool]) -> None:
        """Strikes again and again while `may_strike` returns True."""
        kinds: list[str] = []
        while may_strike():
            if not kinds:  # every kind once, in another order each time
                kinds = self._random.sample(sorted(self._faults), len(self._faults))
            await self._strike(kinds.pop())
            await asyncio.sleep(CALM_S + self._random.random())

    async def _strike(self, kind: str) -> None:
        replica = self._random.choice(self._cluster.replicas[self._stage])
        from_s = time.monotonic()
        await self._faults[kind](self._cluster, replica)
        self.struck.append(FaultRecord(f"{kind} {self._stage}", from_s, time.monotonic(), replica.process.name))
        print(f"{kind} {replica.process.name}: from {from_s:.1f} to {self.struck[-1].until_s:.1f}", flush=True)
