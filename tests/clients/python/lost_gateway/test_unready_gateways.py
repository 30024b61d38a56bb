"""Several gateways that a target lists: those that report NOT_SERVING get no calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest
from csm_client import AsyncClient, Client, UnavailableError
from csm_client.channel import open_async_channel
from csm_client.targets import lists_several

from tests.support.network.watched_gateways import (
    NOT_SERVING,
    SERVING,
    FullHealth,
    RefusingHealth,
    gateway,
    listed,
)

CALLS = 20  # of which half are tried twice: more failures than end gRPC's retries


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


async def test_after_a_time_when_none_served_no_call_goes_to_one_that_does_not() -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other, AsyncClient(listed(one, other)) as client:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="The engine cannot be reached"):
                await client.list_voices()
            one.report(SERVING)
            before = -1
            while other.num_calls != before:
                before = other.num_calls
                for _ in range(CALLS):
                    with suppress(UnavailableError):  # of the other one
                        await client.list_voices()
            assert one.num_calls
            one.report(NOT_SERVING)
            with suppress(UnavailableError):
                while True:
                    await client.list_voices()


async def test_the_synchronous_client_does_so_too() -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other:

        def ask() -> None:
            with Client(listed(one, other)) as client:
                with pytest.raises(UnavailableError, match="The engine cannot be reached"):
                    client.list_voices()
                loop.call_soon_threadsafe(one.report, SERVING)
                before = -1
                while other.num_calls != before:
                    before = other.num_calls
                    for _ in range(CALLS):
                        with suppress(UnavailableError):
                            client.list_voices()
                client.list_voices()

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(ask)


async def test_gateways_behind_a_proxy_that_does_not_pass_the_question_get_calls() -> None:
    refusing = RefusingHealth(grpc.StatusCode.UNAUTHENTICATED)
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
    async with gateway(NOT_SERVING, health=None if health is None else RefusingHealth(health)) as one:
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
