"""Reads a text from standard input piece by piece, while it is still being written."""

from __future__ import annotations

import asyncio
import codecs
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from io import UnsupportedOperation
from typing import TextIO

from csm_client.errors import InputTextError

MOST_WAITING = 64  # pieces that have been read and not been sent
PIECE_BYTES = 4096


async def pieces(file: TextIO | None) -> AsyncIterator[str]:
    """The text in pieces, cut anywhere, as soon as they are there. At a terminal each line is a paragraph of its own,
    so that it is spoken at once.

    file: UTF-8, whatever the locale says; None where it is closed. Raises InputTextError.
    """
    if file is None:
        raise InputTextError("standard input cannot be read: it is closed")
    loop, read = asyncio.get_running_loop(), asyncio.Queue[str | Exception](MOST_WAITING)

    def put(piece: str | Exception) -> None:
        asyncio.run_coroutine_threadsafe(read.put(piece), loop).result()

    def reader() -> None:
        with suppress(RuntimeError, CancelledError):  # the event loop has ended: the text is no longer read
            try:
                for piece in _read(file):
                    put(piece)
                put("")
            except OSError as error:
                put(InputTextError(f"standard input cannot be read: {error}"))
            except UnicodeDecodeError as error:
                put(InputTextError(f"standard input must be UTF-8: {error}"))

    # A daemon, so that the program can end while this thread waits for input.
    threading.Thread(target=reader, daemon=True).start()
    while piece := await read.get():
        if isinstance(piece, Exception):
            raise piece
        yield piece


def _read(file: TextIO) -> Iterator[str]:
    try:
        descriptor = file.fileno()
    except UnsupportedOperation:  # text that is in memory
        yield file.read()
        return
    end = "\n" if file.isatty() else ""  # a terminal gives whole lines
    decoder = codecs.getincrementaldecoder("utf-8")()
    while content := os.read(descriptor, PIECE_BYTES):
        if text := decoder.decode(content):
            yield text + end
    decoder.decode(b"", final=True)
