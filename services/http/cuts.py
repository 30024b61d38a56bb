"""Cuts connections whose clients do not read what was left at the close, or have vanished.

A client vanishes when its machine or its network does; no packet says so. The kernel's probes find this out while a
connection is idle. They stop while bytes are unacknowledged: the kernel sends those again for a quarter of an hour, so
this module watches for an answer. The kernel's own limit (TCP_USER_TIMEOUT) would also cut clients that read as they
play: once such a client has had no room, Linux goes on counting although it reads.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

LOST_S = 40.0  # after so long without an answer
LOOK_S = 5.0  # between two looks at the connections
LOST = "csm.lost"  # key of a request's state: its client has vanished
_PROBES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # LOST_S together
_TCP_INFO = struct.Struct("=3xB20xI112xI")  # of Linux 4.2 and later
_UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)


class Tcp(NamedTuple):
    """What the kernel knows of a connection."""

    probe_count: int  # unanswered ones
    unacknowledged_count: int  # segments
    received_count: int  # segments of any kind


class Connection(Protocol):
    """A uvicorn connection. `scope`, if it has one, is that of its last request."""

    transport: asyncio.Transport


def probe_idle_clients(listening: socket.socket) -> None:
    """Lets the kernel close accepted connections whose idle clients do not answer."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if (option := getattr(socket, name, None)) is not None:  # macOS lacks one
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def read_tcp(transport: asyncio.Transport) -> Tcp | None:
    """None for a closed connection, and on systems other than Linux."""
    with suppress(OSError, AttributeError, struct.error):
        connection = transport.get_extra_info("socket")
        return Tcp(*_TCP_INFO.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)))
    return None


def note_loss(connection: Connection) -> None:
    """Tells the connection's request, for the log."""
    scope: dict[str, Any] | None = getattr(connection, "scope", None)
    if scope is not None:
        scope["state"][LOST] = True


def is_loss(error: Exception | None) -> bool:
    """Whether the kernel has given a connection up. error: with which it ended"""
    return isinstance(error, OSError) and error.errno in _UNREACHABLE


class SlowCloses:
    """Cuts closing connections whose clients do not read what is still to be sent."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._closing: WeakKeyDictionary[asyncio.Transport, float] = WeakKeyDictionary()  # since when

    def cut(self, connections: Iterable[Connection], now_s: float) -> None:
        """Aborts connections that have been closing for `most_s` seconds, as seen by these calls."""
        for connection in list(connections):
            if not connection.transport.is_closing():
                continue
            if now_s - self._closing.setdefault(connection.transport, now_s) >= self._most_s:
                connection.transport.abort()


class LostClients:
    """Cuts connections whose clients have not answered for `most_s` seconds, as seen by these calls."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        # Of connections that wait for an answer: segments received, and since when there were no more.
        self._silent: WeakKeyDictionary[asyncio.Transport, tuple[int, float]] = WeakKeyDictionary()

    def cut(self, connections: Iterable[Connection], now_s: float) -> None:
        for connection in list(connections):
            transport = connection.transport
            tcp = read_tcp(transport)
            if tcp is None or not (tcp.unacknowledged_count or tcp.probe_count):
                self._silent.pop(transport, None)
                continue
            count, since_s = self._silent.get(transport, (-1, now_s))
            if tcp.received_count != count:
                since_s = now_s
            self._silent[transport] = tcp.received_count, since_s
            if now_s - since_s >= self._most_s:
                note_loss(connection)
                transport.abort()
