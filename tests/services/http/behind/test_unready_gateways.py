"""The HTTP server is ready while one of several gateways is, whatever is wrong with the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.health import HealthServicer
from services.http.api.health import READINESS, GatewayHealth
from tests.support.network.tcp_relay import tcp_relay

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
IN_TURN = 6  # answers, of which each of two gateways would have given some


class Gateway(HealthServicer):
    """The health of a gateway."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.set(READINESS, status)
        self.num_calls, self.port = 0, 0

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        self.num_calls += 1
        return await super().Check(request, context)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        self.num_calls += 1
        await super().Watch(request, context)


@asynccontextmanager
async def gateway(status: int) -> AsyncIterator[Gateway]:
    server, running = grpc.aio.server(), Gateway(status)
    health_pb2_grpc.add_HealthServicer_to_server(running, server)
    running.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield running
    await server.stop(0)


@asynccontextmanager
async def health_of(*ports: int) -> AsyncIterator[GatewayHealth]:
    health = GatewayHealth("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports))
    yield health
    await health.close()


async def test_a_gateway_that_does_not_serve_is_not_asked() -> None:
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other, health_of(one.port, other.port) as health:
        while not other.num_calls:
            assert await health.is_ready()
        assert [await health.is_ready() for _ in range(IN_TURN)] == [True] * IN_TURN


async def test_without_a_gateway_that_serves_the_server_is_not_ready() -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other, health_of(one.port, other.port) as health:
        assert [await health.is_ready() for _ in range(IN_TURN)] == [False] * IN_TURN
        other.set(READINESS, SERVING)
        async with asyncio.timeout(60):
            while not await health.is_ready():
                await asyncio.sleep(0.01)


async def test_a_frozen_gateway_is_soon_asked_no_more() -> None:
    """By gRPC's defaults every other answer is late, ten of them. Here it is the two of 4 s at most."""
    async with gateway(SERVING) as one, gateway(SERVING) as frozen, tcp_relay(frozen.port) as relay:
        async with health_of(one.port, relay.port) as health:
            while not frozen.num_calls:
                assert await health.is_ready()
            relay.set_black_hole(True)
            num_ready, num_late = 0, 0
            while num_ready < IN_TURN and num_late < 5:  # ready in a row
                is_ready = await health.is_ready()
                num_ready, num_late = (num_ready + 1, num_late) if is_ready else (0, num_late + 1)
                await asyncio.sleep(0.01)
            assert num_late < 5
