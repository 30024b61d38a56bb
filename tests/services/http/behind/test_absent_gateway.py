"""A gateway that is gone, or whose name had no address: calls and readiness find it soon after its return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace

import grpc
import httpx
import pytest
from fastapi import FastAPI
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from services.common.rpc.channels import next_channel
from services.http.api import health
from services.http.api.channels import ChannelPool
from services.http.api.health import READINESS, GatewayHealth
from services.http.endpoints import probes
from tests.support.door.fake_door import fake_door

SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


@pytest.fixture
def opened() -> list[grpc.aio.Channel]:
    return []


@pytest.fixture
async def open_channel(
    monkeypatch: pytest.MonkeyPatch, opened: list[grpc.aio.Channel]
) -> AsyncIterator[Callable[[], grpc.aio.Channel]]:
    """Opens two channels that find nobody, as gRPC's do for minutes after a name got an address, then one that does."""
    monkeypatch.setattr(next_channel, "ANOTHER_AFTER_S", 0.05)
    server, servicer = grpc.aio.server(), HealthServicer()
    servicer.set(READINESS, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    targets: Iterator[str] = iter(["127.0.0.1:1", "127.0.0.1:1", f"127.0.0.1:{port}"])

    def open_next() -> grpc.aio.Channel:
        opened.append(grpc.aio.insecure_channel(next(targets), [("grpc.use_local_subchannel_pool", 1)]))
        return opened[-1]

    yield open_next
    await server.stop(0)


async def count_failures(is_answered: Callable[[], Awaitable[bool]]) -> int:
    """Calls again until a call is answered."""
    failed = 0
    async with asyncio.timeout(20):
        while not await is_answered():
            failed += 1
            await asyncio.sleep(0.02)
    return failed


async def test_calls_find_a_gateway_that_came_later(
    open_channel: Callable[[], grpc.aio.Channel], opened: list[grpc.aio.Channel]
) -> None:
    pool = ChannelPool(open_channel, 8)
    stub = health_pb2_grpc.HealthStub(pool)

    async def is_answered() -> bool:
        try:
            await stub.Check(health_pb2.HealthCheckRequest())
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False
        return True

    assert await count_failures(is_answered) >= 2
    await asyncio.sleep(0)
    assert [each.get_state() for each in opened[:2]] == [SHUTDOWN] * 2, "those that are not needed are closed"
    assert len(opened) == 3 and list(pool.num_calls) == [0]
    await pool.close()
    assert opened[2].get_state() is SHUTDOWN


async def test_readiness_follows_a_gateway_that_came_later(
    open_channel: Callable[[], grpc.aio.Channel], opened: list[grpc.aio.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "open_channel", lambda target, **options: open_channel())
    gateway = GatewayHealth("gateway:1")
    assert await count_failures(gateway.is_ready) >= 2
    await gateway.close()
    assert [each.get_state() for each in opened] == [SHUTDOWN] * 3


async def test_server_is_ready_only_when_the_next_call_finds_the_gateway(
    open_channel: Callable[[], grpc.aio.Channel],
) -> None:
    """After an outage of all gateways, although their health is known to be good again."""
    pool = ChannelPool(open_channel, 8)
    stub, app = health_pb2_grpc.HealthStub(pool), FastAPI(routes=probes.router.routes)

    async def is_ready() -> bool:
        return True

    app.state.door = SimpleNamespace(
        health=SimpleNamespace(is_ready=is_ready),
        upstream=SimpleNamespace(channels=pool),
        streams=SimpleNamespace(draining=asyncio.Event()),
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Check(health_pb2.HealthCheckRequest())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client:

        async def is_answered() -> bool:
            return (await client.get("/readyz")).status_code == 200

        assert await count_failures(is_answered) >= 1
    await stub.Check(health_pb2.HealthCheckRequest())
    await pool.close()


async def test_lost_gateway_is_503_and_its_address_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_door() as door:
        await door.behind.gateway.stop()
        answer = await door.client.post(
            "/v1/audio/speech",
            json={"input": "Hello.", "response_format": "pcm"},
            headers={"x-timeout-seconds": "60"},
        )
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert "127.0.0.1" not in answer.text and answer.json()["error"]["code"] == "unavailable"
        assert door.behind.target in caplog.text
