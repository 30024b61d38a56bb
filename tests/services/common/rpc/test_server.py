"""Health per name on its own port, reflection, message limits, keepalive, and the end of a stage."""

from __future__ import annotations

import asyncio
import resource
import socket
import urllib.request
from contextlib import suppress
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc import server as module
from services.common.rpc.health import MOST_WATCHES
from services.common.rpc.server import OTHER_FILES, StageServer, StageService, server_options
from services.common.settings import StageSettings
from services.gateway.settings import GatewaySettings
from tests.support.fake_stages import FakeEngine
from tests.support.waits import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ["", "readiness", "csm.codec.v1.CodecService"]
CALLS = GatewaySettings.model_fields["max_streams_per_connection"].default + 100


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def check(stage: Any, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(stage.health_channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_is_not_serving_until_ready_then_serving(stage: Any) -> None:
    assert [await check(stage, name) for name in NAMES] == [NOT_SERVING] * 3
    assert await check(stage, "liveness") == SERVING
    stage.server.set_serving()
    assert [await check(stage, name) for name in NAMES] == [SERVING] * 3


async def test_health_is_on_the_api_port_too(stage: Any) -> None:
    stub = health_pb2_grpc.HealthStub(stage.channel)
    request = health_pb2.HealthCheckRequest(service="csm.codec.v1.CodecService")
    assert (await stub.Check(request)).status == NOT_SERVING
    stage.server.set_serving()
    assert (await stub.Check(request)).status == SERVING


async def test_a_connection_has_few_watches_at_once(stage: Any) -> None:
    stub = health_pb2_grpc.HealthStub(stage.channel)
    request = health_pb2.HealthCheckRequest(service="liveness")
    watches = [stub.Watch(request) for _ in range(MOST_WATCHES)]
    for watch in watches:
        assert (await watch.read()).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Watch(request).read()
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED  # for gRPC's clients: it serves without telling so
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}", options) as other:
        assert (await health_pb2_grpc.HealthStub(other).Watch(request).read()).status == SERVING
    watches[0].cancel()
    await eventually(lambda: sum(stage.server._health._watches.values()) < MOST_WATCHES)
    assert (await stub.Watch(request).read()).status == SERVING


async def test_unknown_health_name_is_not_found(stage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(stage, "no.such.Service")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_drain_lets_running_calls_end_and_refuses_new_ones(stage: Any) -> None:
    go_on = asyncio.Event()
    entered = asyncio.Event()

    async def slow(context: Any) -> Any:
        entered.set()
        await go_on.wait()
        return codec_pb2.GetCodecInfoResponse(notice="late")

    stage.codec.on_info = slow
    stage.server.set_serving()
    running = stage.stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    await entered.wait()
    draining = asyncio.create_task(stage.server.drain(20))
    watch = health_pb2_grpc.HealthStub(stage.health_channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
    async for answer in watch:
        if answer.status == NOT_SERVING:
            break
    assert await check(stage, "liveness") == SERVING  # a draining pod must not be killed
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        fresh = type(stage.stub)(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await fresh.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    go_on.set()
    assert (await running).notice == "late"
    await draining


async def test_message_over_the_limit_is_refused(stage: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.stub.Encode(codec_pb2.EncodeRequest(samples=bytes(2 << 20)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_reflection_names_the_services(stage: Any) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(stage.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    names = {service.name for service in answers[0].list_services_response.service}
    assert "csm.codec.v1.CodecService" in names
    stub = reflection_pb2_grpc.ServerReflectionStub(stage.health_channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    names = {service.name for service in answers[0].list_services_response.service}
    assert "grpc.health.v1.Health" in names


async def test_metrics_count_calls_by_code(stage: Any) -> None:
    await stage.stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    exporter = StageServer(StageSettings(host="127.0.0.1", metrics_port=0), [], stage.server.metrics)
    await exporter.start()
    url = f"http://127.0.0.1:{exporter.metrics_port}/metrics"
    body = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
    await exporter.drain(0)
    assert 'grpc_server_handled_total{grpc_code="OK",grpc_method="GetCodecInfo"' in body
    assert "grpc_server_started_total" in body and "grpc_server_handling_seconds_bucket" in body


async def test_a_stage_takes_more_calls_on_one_connection_than_a_gateway() -> None:
    """A gateway has a single connection to each engine and codec."""
    engine = FakeEngine()
    engine.script.pause_at = 0
    service = StageService(engine_pb2_grpc.add_EngineServiceServicer_to_server, engine, "csm.engine.v1.EngineService")
    server = StageServer(StageSettings(host="127.0.0.1"), [service], for_gateways=True)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = engine_pb2_grpc.EngineServiceStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.Generate(engine_pb2.GenerateRequest(max_frame_count=1)) for _ in range(CALLS)]
        await eventually(lambda: len(engine.calls) >= CALLS)
        for call in calls:
            call.cancel()
    await server.drain(0)


def test_connections_have_keepalive_and_a_limit_of_messages() -> None:
    options = dict(server_options(StageSettings()))
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.keepalive_time_ms"] == 60_000
    assert options["grpc.max_receive_message_length"] == 16 * 2**20


async def test_idle_connections_leave_file_descriptors_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage's probes and its calls to other stages need files too."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (OTHER_FILES + 3, 4096))
    server = StageServer(StageSettings(host="127.0.0.1"), [])
    await server.start()
    try:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(10)]
        greeted = 0
        for reader, _ in silent:
            with suppress(ConnectionError):
                greeted += await reader.read(1) != b""
        for _, writer in silent:  # only now, as a closed one would make room for another
            writer.close()
        assert greeted == 3
    finally:
        await server.drain(0)


async def test_taken_port_is_an_error(stage: Any) -> None:
    second = StageServer(StageSettings(host="127.0.0.1", port=stage.server.port), [])
    with pytest.raises(OSError, match=rf":{stage.server.port} \(--port\); the port may be taken"):
        await second.start()
    await second.drain(0)


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::", "::1", "[::1]"])
async def test_every_port_listens_on_ipv6(host: str) -> None:
    server = StageServer(StageSettings(host=host, metrics_port=0), [])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"[::1]:{server.health_port}") as channel:
            request = health_pb2.HealthCheckRequest(service="liveness")
            assert (await health_pb2_grpc.HealthStub(channel).Check(request)).status == SERVING
        async with grpc.aio.insecure_channel(f"[::1]:{server.port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
        url = f"http://[::1]:{server.metrics_port}/metrics"
        assert b"grpc_server" in await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    finally:
        await server.drain(0)


async def test_a_drain_does_not_wait_for_health_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_QUIET_S", 0.01)
    server = StageServer(StageSettings(host="127.0.0.1"), [], for_gateways=True)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="liveness"))
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(60):
            await server.drain(120)
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
