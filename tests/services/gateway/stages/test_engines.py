"""Engines that are full, lost, stopping or busy: where their conversations and other calls go."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.v1 import tts_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from pydantic import ValidationError

from csm_bundle.errors import EngineBusyError
from services.gateway.settings import GatewaySettings
from services.gateway.stage import start_gateway
from tests.services.gateway.stages.engines import Request, counts, engine_of, metric, named, say
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import FakeEngine, numbered_audio

FULL = EngineBusyError("The queue is full.")


@pytest.mark.parametrize("deployment", [20], indirect=True)  # the ring gives one of 27 three times its full engine
async def test_a_conversation_moves_away_from_a_full_engine(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    asked = named(stream_request, "full")
    home = await engine_of(tts, deployment, asked)
    deployment.engines[home].refusal = FULL
    elsewhere = set()
    for _ in range(4):
        before = counts(deployment.engines)
        assert await say(tts, asked) == numbered_audio(range(10))
        elsewhere |= {
            index
            for index, (count, earlier) in enumerate(zip(counts(deployment.engines), before, strict=True))
            if index != home and count > earlier
        }
    assert len(elsewhere) == 1  # so that later turns find that engine again
    assert metric(deployment, "tts_full_replicas_total", stage="engine", by="conversation", outcome="moved") >= 4
    deployment.engines[home].refusal = None
    assert await engine_of(tts, deployment, asked) == home


@pytest.mark.parametrize("name", ["full", ""], ids=["conversation", "load"])
async def test_calls_to_full_engines_are_bounded(
    deployment: FakeDeployment, tts: Any, stream_request: Request, name: str
) -> None:
    for engine in deployment.engines:
        engine.refusal = FULL
    error = await failure(tts.StreamSynthesize(named(stream_request, name), timeout=60))
    assert (error.code, error.reason, error.retry_delay_s) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", 1.0)
    assert sum(counts(deployment.engines)) == 4
    by = "conversation" if name else "load"
    assert metric(deployment, "tts_full_replicas_total", stage="engine", by=by, outcome="moved") == 3
    assert metric(deployment, "tts_full_replicas_total", stage="engine", by=by, outcome="refused") == 1


async def test_the_last_attempt_of_a_conversation_goes_by_load(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    """All other keys may belong to a single engine."""
    for engine in deployment.engines:
        engine.refusal = FULL
    await failure(tts.StreamSynthesize(named(stream_request, "full"), timeout=60))
    sent = [call.metadata.get("csm-conversation", "") for engine in deployment.engines for call in engine.calls]
    assert len(sent) == len(set(sent)) == 4
    assert "" in sent


async def test_only_the_conversations_of_a_lost_engine_move(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    asked = [named(stream_request, f"conversation {number}") for number in range(24)]
    homes = [await engine_of(tts, deployment, request) for request in asked]
    lost = homes[0]
    for engine in deployment.engines:
        engine.script.pause_at = 5
    call = asyncio.create_task(say(tts, asked[0]))
    await asyncio.wait_for(deployment.engines[lost].script.paused.wait(), 60)
    for engine in deployment.engines:
        engine.script.pause_at = None
    await deployment.engine_servers[lost].drain(0)
    assert await call == numbered_audio(range(10))
    for request, home in zip(asked, homes, strict=True):
        now = [await engine_of(tts, deployment, request) for _ in range(2)]
        assert now[0] == now[1] != lost
        assert home in (lost, now[0])


@pytest.mark.parametrize("name", ["a", ""], ids=["conversation", "load"])
async def test_a_stream_continues_when_the_only_engine_comes_back(stream_request: Request, name: str) -> None:
    async with (
        fake_deployment(failover_wait_seconds=20.0) as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        await running.gateway.wait_ready()
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        running.engine.script.pause_at = 5
        call = asyncio.create_task(say(stub, named(stream_request, name)))
        await asyncio.wait_for(running.engine.script.paused.wait(), 60)
        running.engine.script.pause_at = None
        port = running.engine_server.port
        await running.engine_server.drain(0)
        await asyncio.sleep(0.5)
        again = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        engine_pb2_grpc.add_EngineServiceServicer_to_server(running.engine, again)
        again.add_insecure_port(f"127.0.0.1:{port}")
        await again.start()
        assert await call == numbered_audio(range(10))
        await again.stop(0)


async def test_an_engine_that_is_not_serving_gets_no_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    """The gateway knows that from the health service on the API port, which it watches."""
    engines, servers, healths = [FakeEngine() for _ in range(2)], [], []
    for engine in engines:
        server, health = grpc.aio.server(), health_aio.HealthServicer()
        engine_pb2_grpc.add_EngineServiceServicer_to_server(engine, server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        await health.set("csm.engine.v1.EngineService", health_pb2.HealthCheckResponse.SERVING)
        servers.append((server, server.add_insecure_port("127.0.0.1:0")))
        healths.append(health)
        await server.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for _, port in servers)
    gateway = await start_gateway(deployment.gateway.settings.model_copy(update={"engine_target": target}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.server.port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        asked = named(stream_request, "a")
        await say(stub, asked)
        home = counts(engines).index(1)
        await healths[home].set("csm.engine.v1.EngineService", health_pb2.HealthCheckResponse.NOT_SERVING)
        async with asyncio.timeout(60):
            while not engines[1 - home].calls:
                await say(stub, asked)
    await gateway.stop()
    for server, _ in servers:
        await server.stop(0)


async def test_a_busier_engine_gets_fewer_calls_without_a_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway knows that from load reports in the trailing metadata of its calls."""
    busy, generate = deployment.engines[0], FakeEngine.Generate

    async def reporting(self: FakeEngine, request: Any, context: Any) -> None:
        await generate(self, request, context)
        utilization = 10.0 if self is busy else 0.1
        report = engine_pb2.LoadReport(rps_fractional=1, application_utilization=utilization)
        context.set_trailing_metadata((("endpoint-load-metrics-bin", report.SerializeToString()),))

    monkeypatch.setattr(FakeEngine, "Generate", reporting)
    async with fake_deployment(replica_count=2) as running, grpc.aio.insecure_channel(running.target) as channel:
        await running.gateway.wait_ready()
        busy = running.engines[0]
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        async with asyncio.timeout(30):
            while True:
                before = counts(running.engines)
                for _ in range(12):
                    await say(stub, stream_request)
                more = [after - earlier for after, earlier in zip(counts(running.engines), before, strict=True)]
                if more[0] <= 2:
                    return


@pytest.mark.parametrize("seconds", [0.5, 1.9])
def test_a_silence_that_is_no_longer_than_the_pauses_between_progress_is_refused(seconds: float) -> None:
    """With half a second each stream that waits for its engine or codec would be lost, again and again."""
    with pytest.raises(ValidationError, match="0 or at least 2"):
        GatewaySettings(stage_silence_seconds=seconds)
