"""A running scripted server, with a scripted clock for tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from csm.v1 import tts_pb2_grpc

from bench.listeners.load import open_channel
from tests.support.scripted_server import ScriptedClock, ScriptedServer, ScriptedService


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    service = ScriptedService()
    running = grpc.aio.server()
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(service, running)
    target = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    await running.start()
    async with open_channel(target) as channel:
        yield ScriptedServer(service, target, channel)
    await running.stop(0)


@pytest.fixture
async def clock(server: ScriptedServer) -> ScriptedClock:
    """The clock of server and client, which only scripts move."""
    server.service.clock = ScriptedClock()
    return server.service.clock
