"""Reads a text from standard input line by line, while it is still being written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TextIO


async def lines(file: TextIO) -> AsyncIterator[str]:
    """The lines with their ends. At a terminal each line is a paragraph, so that it is spoken at once."""
    loop, read = asyncio.get_running_loop(), asyncio.Queue[str]()
    end = "\n" if file.isatty() else ""

    def reader() -> None:
        with suppress(RuntimeError):  # the event loop has closed: the text is no longer read
            for line in file:
                loop.call_soon_threadsafe(read.put_nowait, line + end)
            loop.call_soon_threadsafe(read.put_nowait, "")

    # A daemon, so that the program can end while this thread waits for input.
    threading.Thread(target=reader, daemon=True).start()
    while line := await read.get():
        yield line
