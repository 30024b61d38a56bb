"""A pipe from the event loop to a thread that reads it like a file. Every wait has a limit. It knows no RPC."""

from __future__ import annotations

import asyncio
import threading
import time

CAPACITY_BYTES = 256 * 1024
STEP_SECONDS = 0.01  # between two checks for room, on the event loop


class PipeTimeoutError(Exception):
    """The other side was idle for too long, or has closed the pipe."""


class BytePipe:
    """One writer on the event loop, one reader in a thread."""

    def __init__(self, idle_seconds: float, full_seconds: float) -> None:
        """idle_seconds: longest wait of the reader for content; full_seconds: longest wait of the writer for room"""
        self._idle_seconds, self._full_seconds = idle_seconds, full_seconds
        self._held = bytearray()
        self._changed = threading.Condition()
        self._ended = self._aborted = False

    async def write(self, content: bytes) -> None:
        """Waits while there is no room. Raises PipeTimeoutError."""
        timeout_at_s = time.monotonic() + self._full_seconds
        written = 0
        while True:
            with self._changed:
                if self._aborted:
                    return
                room = CAPACITY_BYTES - len(self._held)
                self._held += memoryview(content)[written : written + room]
                written += room
                self._changed.notify_all()
                if written >= len(content):
                    return
            if time.monotonic() > timeout_at_s:
                raise PipeTimeoutError(f"Nothing was read for {self._full_seconds:g} s.")
            await asyncio.sleep(STEP_SECONDS)

    def end(self) -> None:
        """Ends the content: the reader gets what is left, then b""."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Ends every wait. The reader gets PipeTimeoutError; later writes are dropped."""
        with self._changed:
            self._aborted = True
            self._held.clear()
            self._changed.notify_all()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end. Blocks. Raises PipeTimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held or self._ended or self._aborted, self._idle_seconds):
                raise PipeTimeoutError(f"Nothing has come for {self._idle_seconds:g} s.")
            if self._aborted:
                raise PipeTimeoutError("The writer has gone.")
            count = len(self._held) if size < 0 else min(size, len(self._held))
            content = bytes(self._held[:count])
            del self._held[:count]
            return content
