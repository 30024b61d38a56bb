"""Gateways whose name had no address for a while: a call or stream that reaches none finds them by a new channel.

The first channels find nobody, as gRPC's do for up to two minutes after a name got an address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import csm_client
import grpc
import pytest
from csm_client import AsyncClient, Client
from csm_client.channel import open_async_channel
from csm_client.resuming import connection

from tests.clients.python.lost_gateway.test_moved_gateways import CHUNK, CHUNKS, FIRST, Gateways
from tests.support.network.never_answers import never_connects

NOBODY = "127.0.0.4:1"
LOCAL = [("grpc.use_local_subchannel_pool", 1)]
READY = grpc.ChannelConnectivity.READY


@pytest.fixture
async def gateways() -> AsyncIterator[Gateways]:
    running = Gateways()
    await running.start(FIRST)
    running.speakers[FIRST].goes_on.set()
    yield running
    await running.stop_all()


@pytest.fixture
def targets(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the next channels; the gateway's when empty."""
    left = list[str]()

    def opens(insecure_channel: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *_, **__: insecure_channel(left.pop(0) if left else f"{FIRST}:{gateways.port}", options=LOCAL)

    monkeypatch.setattr(connection, "open_async_channel", opens(grpc.aio.insecure_channel))
    monkeypatch.setattr(connection, "open_channel", opens(grpc.insecure_channel))
    monkeypatch.setattr(connection, "SEARCH_S", 20.0)  # for a busy machine
    return left


def may_search(opened: AsyncClient | Client) -> None:
    """As if its last search were long ago."""
    opened._connection._searched_at_s -= 60


async def test_a_call_that_reaches_nobody_is_made_over_a_new_channel(targets: list[str]) -> None:
    targets.append(NOBODY)
    async with AsyncClient("replicas:1") as opened:
        may_search(opened)
        assert (await opened.synthesize("Hello.")).samples == CHUNK
        assert opened._connection.channel.get_state() is READY


async def test_a_stream_that_reaches_nobody_is_made_over_a_new_channel(targets: list[str]) -> None:
    targets.append(NOBODY)
    async with AsyncClient("replicas:1") as opened:
        may_search(opened)
        assert (await opened.stream_synthesize("Hello.").read_all()).samples == CHUNK * CHUNKS


async def test_the_synchronous_client_makes_its_calls_over_a_new_channel(targets: list[str]) -> None:
    targets.append(NOBODY)

    def speak() -> tuple[bytes, bytes]:
        with Client("replicas:1") as opened:
            may_search(opened)
            streamed = opened.stream_synthesize("Hello.").read_all()
            return streamed.samples, opened.synthesize("Hello.").samples

    assert await asyncio.to_thread(speak) == (CHUNK * CHUNKS, CHUNK)


async def test_calls_that_reach_nobody_together_share_one_search(targets: list[str]) -> None:
    targets += [NOBODY, NOBODY]
    async with AsyncClient("replicas:1") as opened:
        may_search(opened)
        calls = [opened.synthesize("Hello.") for _ in range(8)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in failed] == [csm_client.UnavailableError] * 8
        assert targets == []
        may_search(opened)
        spoken = await asyncio.gather(*(opened.synthesize("Hello.") for _ in range(8)))
        assert [each.samples for each in spoken] == [CHUNK] * 8


async def test_the_callers_own_channel_is_never_replaced(targets: list[str]) -> None:
    async with (
        grpc.aio.insecure_channel(NOBODY, options=LOCAL) as own,
        AsyncClient("replicas:1", channel=own) as opened,
    ):
        may_search(opened)
        with pytest.raises(csm_client.UnavailableError):
            await opened.synthesize("Hello.")
        assert opened._connection.channel is own


async def test_streams_of_a_replaced_channel_go_on(gateways: Gateways, targets: list[str]) -> None:
    gateways.speakers[FIRST].goes_on.clear()
    async with AsyncClient("replicas:1") as opened, opened.stream_synthesize("Hello.") as stream:
        chunks = aiter(stream)
        heard = (await anext(chunks)).audio_content
        may_search(opened)
        assert await opened._connection.finds_another(opened._connection.channel)
        gateways.speakers[FIRST].goes_on.set()
        assert heard + b"".join([chunk.audio_content async for chunk in chunks]) == CHUNK * CHUNKS


async def test_a_call_that_reaches_nobody_does_not_end_with_an_error_of_the_next_channels_tls_files(
    targets: list[str],
) -> None:
    def unreadable(**_: object) -> None:
        raise csm_client.TlsFileError("client.key cannot be read")

    def call() -> None:
        with Client("replicas:1") as opened:
            may_search(opened)
            opened._connection._open = unreadable  # type: ignore[assignment]
            opened.synthesize("Hello.")

    targets += [NOBODY, NOBODY]
    async with AsyncClient("replicas:1") as opened:
        may_search(opened)
        opened._connection._open = unreadable  # type: ignore[assignment]
        with pytest.raises(csm_client.UnavailableError):
            await opened.synthesize("Hello.")
    with pytest.raises(csm_client.UnavailableError):
        await asyncio.to_thread(call)


async def test_a_new_channel_that_finds_nobody_in_time_is_closed_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEARCH_S", 0.2)
    opened = list[Any]()

    def open_next(*arguments: Any, **options: Any) -> grpc.aio.Channel:
        opened.append(open_async_channel(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(connection, "open_async_channel", open_next)
    with never_connects() as target:
        async with AsyncClient(target) as client:
            may_search(client)
            first = client._connection.channel
            assert not await client._connection.finds_another(first)
            assert client._connection.channel is first and len(opened) == 2
            assert opened[1].get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_call_over_a_replaced_channel_goes_to_the_new_one_without_a_search(
    kind: type[Client] | type[AsyncClient], targets: list[str]
) -> None:
    client = kind("replicas:1")
    may_search(client)
    client._connection._open = lambda **_: pytest.fail("it searches")  # type: ignore[assignment]
    found = client._connection.finds_another(object())  # type: ignore[arg-type]
    assert found if isinstance(found, bool) else await found
    await (client.close() or asyncio.sleep(0))
