"""A stage whose worker thread hangs while its port answers: callers notice, and its liveness too."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.codec.stage import CodecStage
from services.common.rpc.server import LIVENESS
from services.engine.stage import EngineStage
from tests.services.all_in_one.test_survival import Deployment, collect, hold, request, two_of_each

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SILENCE_S, STALL_S = 4.0, 2.0  # longer than a stage waits on a busy machine


class Hang:
    """A worker thread whose step hangs until the test lets it go."""

    def __init__(self) -> None:
        self.stage: EngineStage | CodecStage | None = None
        self._go_on = threading.Event()

    async def begin(self, stage: EngineStage | CodecStage) -> None:
        self.stage = stage
        thread = stage.async_engine.thread if isinstance(stage, EngineStage) else stage.async_codec.threads[0]
        worker = thread.worker
        step = worker._step

        def hang() -> None:
            self._go_on.wait(100)
            step()

        worker._step = hang

    def end(self) -> None:
        self._go_on.set()


def busy_one(deployment: Deployment, kind: str) -> EngineStage | CodecStage:
    if kind == "engine":
        return next(stage for stage in deployment.engines if sum(stage.async_engine.thread.load()))
    return next(stage for stage in deployment.codecs if stage.async_codec.num_streams)


async def wait_until_liveness(stage: EngineStage | CodecStage, wanted: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.health_port}") as channel, asyncio.timeout(30):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=LIVENESS))
        async for answer in watch:
            if answer.status == wanted:
                return


@pytest.mark.parametrize("kind", ["engine", pytest.param("codec", marks=pytest.mark.slow)])
async def test_a_hung_worker_costs_its_stream_no_sample_and_is_not_live(bundle: Path, keyring: Path, kind: str) -> None:
    stage_settings = {"stall_seconds": STALL_S}
    async with two_of_each(
        bundle, keyring, stage_settings=stage_settings, stage_silence_seconds=SILENCE_S, max_failovers=9
    ) as deployment:
        undisturbed = await collect(deployment.stub.StreamSynthesize(request()), {})
        hang = Hang()

        async def begin() -> None:
            await hang.begin(busy_one(deployment, kind))
            goes_on.set()

        try:
            goes_on = hold(deployment.engines, 8)
            async with asyncio.timeout(60):
                assert await collect(deployment.stub.StreamSynthesize(request()), {1: begin}) == undisturbed
                assert hang.stage is not None
                await wait_until_liveness(hang.stage, NOT_SERVING)
                resumed = _failovers(deployment, kind)
                assert resumed >= 1
                for _ in range(2):  # calls alternate between the two engines
                    assert await collect(deployment.stub.StreamSynthesize(request()), {}) == undisturbed
                assert _failovers(deployment, kind) == resumed, "new calls went to it"
        finally:
            hang.end()
        await wait_until_liveness(hang.stage, SERVING)


def _failovers(deployment: Deployment, stage: str) -> float:
    value = deployment.gateway.server.metrics.registry.get_sample_value
    return value("tts_failovers_total", {"stage": stage, "outcome": "resumed"}) or 0.0
