"""Gateways that come back at other addresses, as Kubernetes' pods do: the name leads to them within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context
from tests.support.network.name_server import NameServer, name_server

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
CHUNK = bytes(range(200))
CHUNKS = 4
SECONDS = 20.0  # gRPC asks a name server again after 30 unless it is told otherwise


class Speaker(tts_pb2_grpc.TextToSpeechServiceServicer):
    """The same audio at every call. holds: until it is cleared, a stream stays behind its first chunk."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def StreamSynthesize(
        self, request: tts_pb2.StreamSynthesizeRequest, context: Context
    ) -> AsyncIterator[tts_pb2.StreamSynthesizeResponse]:
        form = tts_pb2.AudioFormat(audio_encoding="AUDIO_ENCODING_PCM", sample_rate_hertz=24_000, channel_count=1)
        yield tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=5, audio_format=form))
        samples = len(CHUNK) // 2
        for number in range(CHUNKS):
            chunk = tts_pb2.AudioChunk(audio_content=CHUNK, sample_count=samples, sample_offset=number * samples)
            yield tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)
            await self.goes_on.wait()
        stats = tts_pb2.SynthesisStats(sample_count=CHUNKS * samples)
        yield tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary(stats=stats))

    async def Synthesize(self, request: tts_pb2.SynthesizeRequest, context: Context) -> tts_pb2.SynthesizeResponse:
        audio_format = tts_pb2.AudioFormat(sample_rate_hertz=24_000)
        return tts_pb2.SynthesizeResponse(audio_content=CHUNK, audio_format=audio_format)


class Gateways:
    """Each at an address of its own and the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.speakers: dict[str, Speaker] = {}
        self._servers: dict[str, grpc.aio.Server] = {}

    async def start(self, address: str) -> None:
        server, speaker = grpc.aio.server(), Speaker()
        tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(speaker, server)
        self.port = server.add_insecure_port(f"{address}:{self.port}")
        await server.start()
        self.speakers[address], self._servers[address] = speaker, server

    async def stop(self, address: str) -> None:
        await self._servers.pop(address).stop(0)

    async def stop_all(self) -> None:
        for address in list(self._servers):
            await self.stop(address)


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server([FIRST]) as server:
        yield server


@pytest.fixture
async def gateways() -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        running = Gateways()
        stack.push_async_callback(running.stop_all)
        await running.start(FIRST)
        yield running


@pytest.fixture
async def client(names: NameServer, gateways: Gateways) -> AsyncIterator[csm_client.AsyncClient]:
    async with csm_client.AsyncClient(names.target(gateways.port), timeout_s=60) as opened:
        yield opened


async def test_a_stream_resumes_at_the_new_address(
    client: csm_client.AsyncClient, names: NameServer, gateways: Gateways
) -> None:
    async with asyncio.timeout(SECONDS), client.stream_synthesize("Hello.") as stream:
        chunks = aiter(stream)
        heard = [(await anext(chunks)).audio_content]
        await gateways.stop(FIRST)
        following = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(3)  # the client finds nobody; longer than its attempts take, if they do not wait
        await gateways.start(SECOND)
        gateways.speakers[SECOND].goes_on.set()
        names.addresses = [SECOND]
        heard += [(await following).audio_content, *[chunk.audio_content async for chunk in chunks]]
    assert b"".join(heard) == CHUNK * CHUNKS


async def test_the_next_call_finds_the_new_address(
    client: csm_client.AsyncClient, names: NameServer, gateways: Gateways
) -> None:
    await client.synthesize("Hello.")
    await gateways.start(SECOND)
    names.addresses = [SECOND]
    await gateways.stop(FIRST)
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await client.synthesize("Hello.")
                break
            except csm_client.UnavailableError:
                await asyncio.sleep(0.1)
