"""clients/node, whose gateway ends and comes back, maybe at another address: a stream goes on within seconds."""

from __future__ import annotations

import asyncio
import os
import wave
from typing import Any

import pytest

from tests.clients.python.lost_gateway.test_moved_gateways import CHUNK, CHUNKS, FIRST, SECOND, SECONDS, Gateways
from tests.support.network.name_server import name_server

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

ASKS_THE_NAME_SERVER = {"GRPC_NODE_USE_ALTERNATIVE_RESOLVER": "true"}  # of the target, and not the machine's resolver


@pytest.mark.parametrize("address", [FIRST, SECOND], ids=["the same address", "another address"])
async def test_a_stream_resumes_at_the_name_s_new_address(node: Any, address: str) -> None:
    """Its server ends all connections at once, as one does whose drain has taken too long."""
    gateways = Gateways()
    with name_server([FIRST]) as names:
        await gateways.start(FIRST)
        client = await asyncio.create_subprocess_exec(
            *node.command(names.target(gateways.port), "Hello."),
            env=os.environ | ASKS_THE_NAME_SERVER,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert client.stderr is not None
            async with asyncio.timeout(100):
                await client.stderr.readuntil(b"s of audio")
            await gateways.stop(FIRST)
            async with asyncio.timeout(SECONDS):
                await asyncio.sleep(0.5)  # the client finds nobody
                await gateways.start(address)
                gateways.speakers[address].goes_on.set()
                names.addresses = [address]
                _, stderr = await client.communicate()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
            await gateways.stop_all()
    assert client.returncode == 0, stderr.decode()
    with wave.open(str(node.out), "rb") as audio:
        assert audio.readframes(audio.getnframes()) == CHUNK * CHUNKS
