"""Several gateways that a target lists: those that report NOT_SERVING get no calls."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client import AsyncClient, Client, UnavailableError
from csm_client.channel import open_async_channel
from csm_client.targets import lists_several
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.health import MOST_WATCHES, HealthServicer

SERVICE = "csm.v1.TextToSpeechService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
CALLS = 20  # of which half are tried twice: more failures than end gRPC's retries


class Gateway(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Lists no voices. Refuses while it does not serve, as a gateway whose engines are all lost."""

    def __init__(self, status: int) -> None:
        self.status, self.num_calls, self.port = status, 0, 0

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


@asynccontextmanager
async def gateway(
    status: int, *, tells: bool = True, health: health_pb2_grpc.HealthServicer | None = None
) -> AsyncIterator[Gateway]:
    """tells: whether it reports its health on this port. health: in place of its own"""
    server, running = grpc.aio.server(), Gateway(status)
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(running, server)
    if tells:
        if health is None:
            health = HealthServicer()
            health.set(SERVICE, status)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    running.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield running
    await server.stop(0)


def listed(*gateways: Gateway) -> str:
    return "ipv4:" + ",".join(f"127.0.0.1:{one.port}" for one in gateways)


async def test_no_call_goes_to_a_gateway_that_does_not_serve() -> None:
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other, AsyncClient(listed(one, other)) as client:
        for _ in range(CALLS):
            await client.list_voices()
        assert (one.num_calls, other.num_calls) == (CALLS, 0)


async def test_gateways_that_do_not_tell_get_calls() -> None:
    """Those of version 0.1."""
    async with gateway(SERVING, tells=False) as one, gateway(SERVING, tells=False) as other:
        async with AsyncClient(listed(one, other)) as client:
            while not (one.num_calls and other.num_calls):
                await client.list_voices()


async def test_calls_that_a_gateway_refuses_are_made_at_another_one_as_long_as_some_succeed() -> None:
    """As behind a name, where gateways are not watched."""
    async with gateway(SERVING, tells=False) as one, gateway(NOT_SERVING, tells=False) as other:
        async with AsyncClient(listed(one, other)) as client:
            for _ in range(CALLS):
                await client.list_voices()
        assert other.num_calls > 5


async def test_while_none_serves_they_get_calls_and_say_themselves_why_they_refuse() -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other, AsyncClient(listed(one, other)) as client:
        with pytest.raises(UnavailableError, match="The engine cannot be reached"):
            await client.list_voices()
        one.status = other.status = SERVING
        await client.list_voices()


async def test_the_synchronous_client_does_so_too() -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other:

        def ask() -> None:
            with Client(listed(one, other)) as client:
                with pytest.raises(UnavailableError, match="The engine cannot be reached"):
                    client.list_voices()

        await asyncio.to_thread(ask)


class Refusing(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the library has no types
    """As a proxy that wants a token."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await context.abort(self.code)


async def test_gateways_behind_a_proxy_that_does_not_pass_the_question_get_calls() -> None:
    refusing = Refusing(grpc.StatusCode.UNAUTHENTICATED)
    async with gateway(SERVING, health=refusing) as one, gateway(SERVING, health=refusing) as other:
        async with AsyncClient(listed(one, other)) as client:
            while not (one.num_calls and other.num_calls):
                await client.list_voices()


async def test_a_gateway_whose_connection_has_too_many_watches_gets_calls() -> None:
    """A proxy may send the calls of many clients over one connection."""
    async with gateway(SERVING, health=FullHealth()) as one, gateway(SERVING, health=FullHealth()) as other:
        async with AsyncClient(listed(one, other)) as client:
            while not (one.num_calls and other.num_calls):
                await client.list_voices()


@pytest.mark.parametrize(
    ("health", "sentence"),
    [(None, "none of the servers is ready"), (grpc.StatusCode.UNAUTHENTICATED, "no server tells whether it is ready")],
)
async def test_over_a_channel_of_the_callers_the_error_says_why_no_server_is_called(
    health: grpc.StatusCode | None, sentence: str
) -> None:
    async with gateway(NOT_SERVING, health=None if health is None else Refusing(health)) as one:
        async with (
            open_async_channel(listed(one), {}, watched=True) as own,
            AsyncClient(listed(one), channel=own) as client,
        ):
            with pytest.raises(UnavailableError, match=sentence):
                await client.list_voices()


async def test_a_single_gateway_says_itself_why_it_refuses() -> None:
    async with gateway(NOT_SERVING) as only, AsyncClient(f"127.0.0.1:{only.port}") as client:
        with pytest.raises(UnavailableError, match="The engine cannot be reached"):
            await client.list_voices()


@pytest.mark.parametrize(
    ("target", "several"),
    [
        ("ipv4:10.0.0.1:50051,10.0.0.2:50051", True),
        ("ipv6:[::1]:50051,[::2]:50051", True),
        ("ipv6:%5B::1%5D:50051%2C[::2]:50051", False),
        ("ipv4:10.0.0.1:50051", False),
        ("10.0.0.1:50051", False),
        ("dns:///replicas:50051", False),  # a proxy may be behind it, which lets no such call pass
        ("unix:/run/a,b", False),
    ],
)
def test_only_a_list_of_addresses_names_several(target: str, several: bool) -> None:
    assert lists_several(target) is several
