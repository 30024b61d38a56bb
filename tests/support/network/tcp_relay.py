"""A TCP relay to a process whose connections can be cut, stopped, silenced, delayed and corrupted."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PIECE_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close sends RST


class TcpRelay:
    """Relays connections on its own `port` to `target_port`, which may change between connections."""

    def __init__(self, target_port: int = 0, seed: int = 0) -> None:
        self.port = 0
        self.target_port = target_port
        self.delay_s = 0.0  # added to every piece, in both directions
        self.pieces_to_corrupt = 0  # in each of that many next pieces one bit is flipped
        self.num_corrupted = 0
        self._random = random.Random(seed)
        self._passes = asyncio.Event()
        self._passes.set()
        self._silences = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(3):  # until what was just accepted is handed over: a closed server would leave it open
                await asyncio.sleep(0)
            self._server.close()
        for task in self._running:
            task.cancel()
        self.cut()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0)  # transports close

    def cut(self) -> None:
        """Resets every connection. New connections are possible."""
        for writer in list(self._writers):
            with suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    def set_black_hole(self, is_on: bool) -> None:
        """While it is on, no byte passes and no connection ends, as without a network. No byte is lost."""
        if is_on:
            self._passes.clear()
        else:
            self._passes.set()

    def silence(self) -> None:
        """Connections that pass bytes now stay open, and their later bytes are lost. New connections pass bytes."""
        self._silences += 1

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.ensure_future(self._relay(reader, writer))
        self._running.add(task)
        task.add_done_callback(
            lambda done: self._end(done, writer)
        )  # even where the task is cancelled before it begins

    def _end(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._writers.discard(writer)
        self._running.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self._passes.wait()
            there, to_there = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(to_there)
            try:
                await self._join((reader, to_there), (there, writer))
            finally:
                to_there.transport.abort()
                self._writers.discard(to_there)

    async def _join(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Passes bytes both ways until one side ends."""
        passing = [asyncio.create_task(self._pass_on(reader, writer)) for reader, writer in ways]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silences = self._silences
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passes.wait()
                if self._silences > silences:
                    continue
                writer.write(self._corrupted(piece))
                await writer.drain()

    def _corrupted(self, piece: bytes) -> bytes:
        if not self.pieces_to_corrupt:
            return piece
        self.pieces_to_corrupt -= 1
        self.num_corrupted += 1
        wrong = bytearray(piece)
        wrong[self._random.randrange(len(wrong))] ^= 1 << self._random.randrange(8)
        return bytes(wrong)


@asynccontextmanager
async def tcp_relay(target_port: int) -> AsyncIterator[TcpRelay]:
    relay = TcpRelay(target_port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
