"""Gateways that report whether they serve, rightly, wrongly or not at all, and refuse calls while they do not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.health import MOST_WATCHES, HealthServicer

SERVICE = "csm.v1.TextToSpeechService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health(HealthServicer):
    """Counts those that watch it."""

    @property
    def num_watches(self) -> int:
        return self._watches.total()


class Gateway(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Lists no voices. Refuses while it does not serve, as a gateway whose engines are all lost."""

    def __init__(self, status: int) -> None:
        self.status, self.num_calls, self.port, self.health = status, 0, 0, Health()
        self.health.set(SERVICE, status)
        self.server = grpc.aio.server()

    def report(self, status: int) -> None:
        self.status = status
        self.health.set(SERVICE, status)

    async def stop(self) -> None:
        await self.server.stop(0)

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Any) -> tts_pb2.ListVoicesResponse:
        self.num_calls += 1
        if self.status != SERVING:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The engine cannot be reached.")
        return tts_pb2.ListVoicesResponse()


class FullHealth(HealthServicer):
    """For which every connection has all its watches already."""

    def __init__(self) -> None:
        super().__init__()
        self._watches = defaultdict(lambda: MOST_WATCHES)  # type: ignore[assignment]


class RefusingHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the library has no types
    """As a proxy that wants a token."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await context.abort(self.code)


class SilentHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Never answers, as behind a proxy that waits for the end of an answer."""

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await asyncio.Event().wait()


class UnreadableHealth(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # which grpcio's classes do not take
    """Reports what is no message of the health service."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method != "/grpc.health.v1.Health/Watch":
            return None
        return grpc.unary_stream_rpc_method_handler(self._report)

    @staticmethod
    async def _report(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"\xff\xff"
        await asyncio.Event().wait()


@asynccontextmanager
async def gateway(
    status: int, *, tells: bool = True, health: health_pb2_grpc.HealthServicer | UnreadableHealth | None = None
) -> AsyncIterator[Gateway]:
    """tells: whether it reports its health on this port. health: in place of its own"""
    running = Gateway(status)
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(running, running.server)  # type: ignore[no-untyped-call]
    if isinstance(health, UnreadableHealth):
        running.server.add_generic_rpc_handlers((health,))
    elif tells:
        health_pb2_grpc.add_HealthServicer_to_server(health or running.health, running.server)
    running.port = running.server.add_insecure_port("127.0.0.1:0")
    await running.server.start()
    try:
        yield running
    finally:
        await running.stop()


def listed(*gateways: Gateway) -> str:
    """The target that lists them."""
    return "ipv4:" + ",".join(f"127.0.0.1:{one.port}" for one in gateways)
