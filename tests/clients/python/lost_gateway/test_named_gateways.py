"""Gateways behind a name that a real name server resolves, and that has no address for a while, or others, or too many.

The name gets its addresses when a client looks for them over another channel, so that no earlier channel can have seen
them.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from csm.v1 import watermark_pb2, watermark_pb2_grpc
from csm_client import AsyncClient, Client, UnavailableError
from csm_client.resuming import connection
from csm_client.resuming.recording import KEPT_MESSAGES, DetectMessages

from tests.clients.python.lost_gateway.test_moved_gateways import CHUNK, CHUNKS, FIRST, SECOND, Gateways
from tests.support.clock import Clock
from tests.support.network.name_server import NameServer, name_server
from tests.support.network.never_answers import never_connects

NOBODY, SILENT = "127.0.0.4", "127.0.0.5"
SEARCH_S = 20.0  # for a busy machine
OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.dns_min_time_between_resolutions_ms", 100)]


@pytest.fixture
def names(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    monkeypatch.setattr(connection, "SEARCH_S", SEARCH_S)
    with name_server([]) as server:
        yield server


@pytest.fixture
async def gateways(names: NameServer) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        running = Gateways()
        stack.push_async_callback(running.stop_all)
        await start(running, FIRST)
        yield running


async def start(gateways: Gateways, address: str) -> None:
    await gateways.start(address)
    gateways.speakers[address].goes_on.set()


def at_a_search(opened: AsyncClient | Client, do: Callable[[], None]) -> None:
    """Does it before the client opens its next channel."""
    open_channel: Any = opened._connection._open

    def opens() -> Any:
        do()
        return open_channel()

    opened._connection._open = opens


def found_at_a_search(opened: AsyncClient | Client, names: NameServer, addresses: Sequence[str]) -> None:
    """What the name gets by then."""
    at_a_search(opened, lambda: setattr(names, "addresses", list(addresses)))


async def test_a_call_finds_a_gateway_when_its_name_has_an_address_again(
    names: NameServer, gateways: Gateways, clock: Clock
) -> None:
    async with AsyncClient(names.target(gateways.port)) as opened:
        with pytest.raises(UnavailableError):
            await opened.synthesize("Hello.")
        first = opened._connection.channel
        clock.put_forward(SEARCH_S)
        found_at_a_search(opened, names, [FIRST])
        assert (await opened.synthesize("Hello.")).samples == CHUNK
        assert opened._connection.channel is not first


async def test_the_synchronous_client_finds_a_gateway_when_its_name_has_an_address_again(
    names: NameServer, gateways: Gateways, clock: Clock
) -> None:
    def speak() -> tuple[bytes, bytes]:
        with Client(names.target(gateways.port)) as opened:
            with pytest.raises(UnavailableError):
                opened.synthesize("Hello.")
            first = opened._connection.channel
            clock.put_forward(SEARCH_S)
            found_at_a_search(opened, names, [FIRST])
            streamed = opened.stream_synthesize("Hello.").read_all()
            assert opened._connection.channel is not first
            return streamed.samples, opened.synthesize("Hello.").samples

    assert await asyncio.to_thread(speak) == (CHUNK * CHUNKS, CHUNK)


@pytest.mark.parametrize(
    "addresses",
    [[SECOND], [NOBODY, SECOND], [SECOND, SILENT], [FIRST, NOBODY, SILENT, SECOND]],
    ids=["alone", "beside one that nobody has", "beside one that never answers", "beside all of them"],
)
async def test_a_call_finds_gateways_that_have_all_restarted_elsewhere(
    names: NameServer, gateways: Gateways, clock: Clock, addresses: list[str]
) -> None:
    names.addresses = [FIRST]
    with never_connects(SILENT, gateways.port):
        async with AsyncClient(names.target(gateways.port)) as opened:
            await opened.synthesize("Hello.")
            first = opened._connection.channel
            await gateways.stop(FIRST)
            names.addresses = []
            with pytest.raises(UnavailableError):
                await opened.server_info()
            await start(gateways, SECOND)
            clock.put_forward(SEARCH_S)
            found_at_a_search(opened, names, addresses)
            assert (await opened.synthesize("Hello.")).samples == CHUNK
            assert opened._connection.channel is not first


async def test_a_stream_resumes_when_its_name_has_an_address_again(
    names: NameServer, gateways: Gateways, clock: Clock
) -> None:
    names.addresses = [FIRST]
    gateways.speakers[FIRST].goes_on.clear()
    async with AsyncClient(names.target(gateways.port)) as opened, opened.stream_synthesize("Hello.") as stream:
        chunks, first = aiter(stream), opened._connection.channel
        heard = (await anext(chunks)).audio_content
        await start(gateways, SECOND)
        names.addresses = []
        clock.put_forward(SEARCH_S)
        found_at_a_search(opened, names, [SECOND])
        await gateways.stop(FIRST)
        assert heard + b"".join([chunk.audio_content async for chunk in chunks]) == CHUNK * CHUNKS
        assert opened._connection.channel is not first


async def test_a_stream_over_the_callers_own_channel_resumes_over_it(
    names: NameServer, gateways: Gateways, clock: Clock
) -> None:
    """Its name has an address again after a call that reached nobody; its channel sees it a second later."""
    names.addresses = [FIRST]
    gateways.speakers[FIRST].goes_on.clear()
    async with (
        grpc.aio.insecure_channel(names.target(gateways.port), options=OWN) as own,
        AsyncClient(names.target(gateways.port), channel=own) as opened,
        opened.stream_synthesize("Hello.") as stream,
    ):
        chunks, has_failed = aiter(stream), asyncio.Event()
        heard = (await anext(chunks)).audio_content
        await start(gateways, SECOND)
        names.addresses = []
        clock.put_forward(SEARCH_S)
        finds_another = opened._connection.finds_another

        async def finds(tried: grpc.aio.Channel) -> bool:
            names.addresses = [SECOND]
            has_failed.set()
            return await finds_another(tried)

        opened._connection.finds_another = finds  # type: ignore[method-assign]
        await gateways.stop(FIRST)
        assert heard + b"".join([chunk.audio_content async for chunk in chunks]) == CHUNK * CHUNKS
        assert has_failed.is_set() and opened._connection.channel is own


async def test_an_address_that_nobody_has_beside_a_good_one_costs_no_call_and_no_search(
    names: NameServer, gateways: Gateways, clock: Clock
) -> None:
    names.addresses = [NOBODY, SILENT, FIRST]
    with never_connects(SILENT, gateways.port):
        async with AsyncClient(names.target(gateways.port)) as opened:
            clock.put_forward(SEARCH_S)
            at_a_search(opened, lambda: pytest.fail("a search"))
            spoken = [await opened.synthesize("Hello.") for _ in range(6)]
    assert [each.samples for each in spoken] == [CHUNK] * 6


class Detector(watermark_pb2_grpc.WatermarkServiceServicer):
    """Finds a digest of what it got."""

    async def StreamDetectWatermark(
        self, requests: AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest], context: Any
    ) -> watermark_pb2.StreamDetectWatermarkResponse:
        digest = hashlib.sha256()
        async for request in requests:
            digest.update(request.audio_content)
        return watermark_pb2.StreamDetectWatermarkResponse(key_id=digest.hexdigest())


RECORDING = b"RIFF" + bytes(range(256)) * 256 * KEPT_MESSAGES  # in more messages than are kept


async def test_a_recording_that_reaches_nobody_is_sent_over_a_new_channel_from_its_start(
    names: NameServer, listen: Callable[..., Any], clock: Clock
) -> None:
    target = await listen(watermark_pb2_grpc.add_WatermarkServiceServicer_to_server, Detector())
    port = int(target.split(":")[1])

    def find() -> str:
        with Client(names.target(port)) as opened:
            clock.put_forward(SEARCH_S)
            found_at_a_search(opened, names, ["127.0.0.1"])
            return opened.find_watermarks(io.BytesIO(RECORDING)).key_id

    async with AsyncClient(names.target(port)) as opened:
        clock.put_forward(SEARCH_S)
        found_at_a_search(opened, names, ["127.0.0.1"])
        found = [(await opened.find_watermarks(io.BytesIO(RECORDING))).key_id]
    names.addresses = []
    found.append(await asyncio.to_thread(find))
    assert found == [hashlib.sha256(RECORDING).hexdigest()] * 2


def test_a_recording_is_sent_from_its_start_while_an_earlier_call_still_reads_it() -> None:
    messages = DetectMessages(io.BytesIO(RECORDING), ())
    earlier, later = iter(messages), iter(messages)
    for _ in range(KEPT_MESSAGES - 1):
        next(earlier)
    assert messages.can_begin_again
    sent = [next(later).audio_content]
    next(earlier)
    assert not messages.can_begin_again
    assert b"".join([*sent, *(message.audio_content for message in later)]) == RECORDING
