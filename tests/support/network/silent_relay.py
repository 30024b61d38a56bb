"""A relay in front of a server whose connections can fall silent: they stay open, and bytes are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class SilentRelay:
    """Passes connections to `port` on to `server_port`. When that changes, connections to the old one fall silent."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.server_port = server_port
        self._relays: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relays.add(asyncio.ensure_future(self._relay(reader, writer)))

    async def end(self) -> None:
        """Closes all connections."""
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it."""
        inner_port = self.server_port
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner_port)
        except BaseException:
            writer.close()
            raise

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if self.server_port == inner_port:
                    sink.write(data)

        passing = [asyncio.ensure_future(pass_on(reader, inner_writer))]
        passing.append(asyncio.ensure_future(pass_on(inner_reader, writer)))
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in passing:
                one.cancel()
            for sink in (inner_writer, writer):
                sink.close()
                with suppress(OSError):
                    await sink.wait_closed()
            await asyncio.gather(*passing, return_exceptions=True)


@asynccontextmanager
async def silent_relay(server_port: int) -> AsyncIterator[SilentRelay]:
    relay = SilentRelay(server_port)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await server.wait_closed()
        await relay.end()
