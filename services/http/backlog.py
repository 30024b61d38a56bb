"""Audio that waits for a client: written to its connection and not acknowledged. The limit is in seconds of audio.

Without it the kernel takes up to megabytes, then nothing until a third of that is free. In most formats a third is more
than half a minute of speech, in which a client that reads as it plays seems not to read. The limit is not lower because
a stream that waits for its client long enough gives its decode slot back.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Scope

MOST_S = 20.0  # of audio
REST_S = 10.0  # writing continues when so much less waits, or after this time when anything less does
LOOK_S = 0.25  # between two looks at what waits
KNOWN_AFTER_S = 1.0  # of audio: the first bytes are those of a container's header
WAITING = "csm.waiting"  # scope key: a function that returns `waiting_bytes` of the request's connection


def waiting_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the client has not acknowledged. 0 for a closed connection, and on systems other than Linux."""
    with suppress(OSError, ValueError, AttributeError):
        connection = transport.get_extra_info("socket")
        (unsent,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
        return int(unsent) + transport.get_write_buffer_size()
    return 0


class Backlog:
    """The audio of one response that waits for the client."""

    def __init__(self, scope: Scope, patience_s: float) -> None:
        """patience_s: longest wait for a client that takes nothing"""
        self._waiting: Callable[[], int] = scope.get(WAITING, lambda: 0)
        self._patience_s = patience_s
        self._bytes, self._seconds = 0, 0.0  # of the response so far

    async def add(self, byte_count: int, seconds: float) -> None:
        """Counts audio that is about to be written, once there is room for it.

        Raises TimeoutError when the client takes nothing.
        """
        self._bytes += byte_count
        self._seconds += seconds
        if self._seconds < KNOWN_AFTER_S:
            return
        per_second = self._bytes / self._seconds
        if self._own(self._waiting()) > MOST_S * per_second:
            await self._until_fewer(MOST_S * per_second, (MOST_S - REST_S) * per_second)

    def _own(self, waiting: int) -> int:
        """Of the bytes that wait, those of this response. Pipelined ones of an earlier response wait before them."""
        return min(waiting, self._bytes)

    async def _until_fewer(self, most: float, few: float) -> None:
        """Clients' kernels acknowledge in steps, of up to half a minute of audio in some formats."""
        clock = asyncio.get_running_loop().time
        began_s = since_s = clock()
        least = self._waiting()
        while self._own(least) > (few if clock() - began_s < REST_S else most):
            await asyncio.sleep(LOOK_S)
            if (now := self._waiting()) < least:
                least, since_s = now, clock()
            elif clock() - since_s >= self._patience_s:
                raise TimeoutError
