"""A gateway that falls silent, and closes nothing: a stream that waits for it goes on at another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2_grpc
from csm_client import channel

from tests.clients.python.lost_gateway.test_moved_gateways import CHUNK, CHUNKS, Speaker
from tests.support.network.silent_relay import silent_relay

PING_MS, ANSWER_MS = 100, 2_000


@asynccontextmanager
async def speaker() -> AsyncIterator[tuple[Speaker, int]]:
    server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", PING_MS // 4)])
    service = Speaker()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield service, port
    finally:
        await server.stop(0)


async def test_a_stream_goes_on_after_its_gateway_fell_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late in a stream too, when many pings have gone without anything to send."""
    monkeypatch.setattr(channel, "KEEPALIVE_MS", (PING_MS, ANSWER_MS))
    async with speaker() as (_, inner), speaker() as (other, port), silent_relay(inner) as relay:
        async with csm_client.AsyncClient(f"127.0.0.1:{relay.port}", timeout_s=60) as client, asyncio.timeout(30):
            async with client.stream_synthesize("Hello.") as stream:
                chunks = aiter(stream)
                heard = [(await anext(chunks)).audio_content]
                await asyncio.sleep(40 * PING_MS / 1000)
                other.goes_on.set()
                relay.server_port = port
                heard += [chunk.audio_content async for chunk in chunks]
    assert b"".join(heard) == CHUNK * CHUNKS
