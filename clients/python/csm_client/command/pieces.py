"""A text that somebody else is writing, read as it comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TextIO


async def lines(file: TextIO) -> AsyncIterator[str]:
    """Its lines, with their ends. Typed at a terminal each is a paragraph, so that it is said at once."""
    loop, read = asyncio.get_running_loop(), asyncio.Queue[str]()
    end = "\n" if file.isatty() else ""

    def reader() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            for line in file:
                loop.call_soon_threadsafe(read.put_nowait, line + end)
            loop.call_soon_threadsafe(read.put_nowait, "")

    # A daemon, which the end of the program does not wait for: it may be waiting for somebody to type.
    threading.Thread(target=reader, daemon=True).start()
    while line := await read.get():
        yield line
