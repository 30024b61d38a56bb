"""A name server on loopback that knows one name, whose addresses a test changes (RFC 1035: A records, no more)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

_ANSWER, _A, _IN = 0x8180, 1, 1
_NAME_OF_QUESTION = b"\xc0\x0c"  # a pointer to it


class NameServer(asyncio.DatagramProtocol):
    """Answers every question with the same addresses, to be forgotten at once."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, caller: tuple[str | None, int]) -> None:
        end = data.index(b"\0", 12) + 5  # behind the name stand its type and class
        kind = int.from_bytes(data[end - 4 : end - 2], "big")
        records = [self._record(address) for address in self.addresses] if kind == _A else []
        head = b"".join(number.to_bytes(2, "big") for number in (_ANSWER, 1, len(records), 0, 0))
        self._transport.sendto(data[:2] + head + data[12:end] + b"".join(records), caller)

    @staticmethod
    def _record(address: str) -> bytes:
        seconds, length = (0).to_bytes(4, "big"), (4).to_bytes(2, "big")
        kind = _A.to_bytes(2, "big") + _IN.to_bytes(2, "big")
        return _NAME_OF_QUESTION + kind + seconds + length + socket.inet_aton(address)


@asynccontextmanager
async def name_server(addresses: Sequence[str]) -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(addresses), local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
