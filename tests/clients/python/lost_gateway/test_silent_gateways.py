"""A gateway that falls silent, and closes nothing: a stream that waits for it goes on at another one.

A gateway that is only slow allows the pings by which it would be missed.
"""

from __future__ import annotations

import asyncio

import csm_client
import pytest
from csm_client import channel

from services.common.rpc.server import server_options
from services.common.settings import StageSettings
from tests.clients.python.lost_gateway.test_moved_gateways import CHUNK, CHUNKS, Speaker
from tests.support.network.tcp_relay import tcp_relay
from tests.support.network.tts_server import tts_server

PING_MS, ANSWER_MS = 100, 2_000
FASTER = 5  # than by default, so that the test is short


async def test_a_stream_resumes_after_its_gateway_stops_responding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late in a stream too, when many pings have gone without anything to send."""
    monkeypatch.setattr(channel, "KEEPALIVE_MS", (PING_MS, ANSWER_MS))
    often = ("grpc.http2.min_ping_interval_without_data_ms", PING_MS // 4)
    first, other = Speaker(), Speaker()
    async with tts_server(first, often) as inner, tts_server(other, often) as port, tcp_relay(inner) as relay:
        async with csm_client.AsyncClient(f"127.0.0.1:{relay.port}", timeout_s=60) as client, asyncio.timeout(30):
            async with client.stream_synthesize("Hello.") as stream:
                chunks = aiter(stream)
                heard = [(await anext(chunks)).audio_content]
                await asyncio.sleep(40 * PING_MS / 1000)
                other.goes_on.set()
                relay.silence()
                relay.target_port = port
                heard += [chunk.audio_content async for chunk in chunks]
    assert b"".join(heard) == CHUNK * CHUNKS


async def test_a_gateway_accepts_the_keepalive_pings_of_a_waiting_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """With some seconds of them. gRPC closes the connection at the third that comes too early."""
    every_ms, answer_ms = channel.KEEPALIVE_MS
    monkeypatch.setattr(channel, "KEEPALIVE_MS", (every_ms // FASTER, answer_ms))
    speaker = Speaker()
    async with tts_server(speaker, *server_options(StageSettings())) as port:
        async with csm_client.AsyncClient(f"127.0.0.1:{port}", resumes=0) as client, asyncio.timeout(30):
            async with client.stream_synthesize("Hello.") as stream:
                chunks = aiter(stream)
                await anext(chunks)
                await asyncio.sleep(8 * every_ms / FASTER / 1000)
                speaker.goes_on.set()
                assert len([chunk async for chunk in chunks]) == CHUNKS - 1
