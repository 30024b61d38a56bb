"""A relay to a server that can freeze: connections then stay open, and no byte passes."""

from __future__ import annotations

import asyncio


class FreezingLine:
    """Once it is open, connections to `port` are passed on to the server."""

    def __init__(self) -> None:
        self._flows = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._callers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def open(self, to_port: int) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._callers.append(writer)
            self._running.add(asyncio.ensure_future(self._connect(reader, writer, to_port)))

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._flows.set()

    def freeze(self) -> None:
        self._flows.clear()

    async def close(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection that the system has just accepted becomes a task
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for writer in self._callers:  # including those whose task had not begun
            writer.transport.abort()
        await asyncio.sleep(0)  # transports close

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_port: int) -> None:
        """One connection. It is closed at once where the server is gone."""
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", to_port)
        except OSError:
            return
        else:
            await asyncio.gather(self._copy(reader, their_writer), self._copy(their_reader, writer))
        finally:
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while content := await reader.read(2**16):
                await self._flows.wait()
                writer.write(content)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
