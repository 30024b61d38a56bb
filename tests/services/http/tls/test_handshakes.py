"""TLS handshakes that do not end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.door.fake_door import fake_door


def start_of_a_handshake() -> bytes:
    """Of a client that then says no more."""
    client, sent = ssl.create_default_context(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


@pytest.mark.parametrize("start", [b"", start_of_a_handshake()[:50], start_of_a_handshake()], ids=len)
async def test_handshake_that_does_not_end_closes_the_connection(tmp_path: Path, start: bytes) -> None:
    async with fake_door(header_timeout_seconds=1.0, **Authority().write(tmp_path)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
        writer.write(start)
        await asyncio.wait_for(reader.read(), 20)  # until the connection is closed; asyncio's own bound is 60 s
        writer.close()
