"""Outcomes that may have no receiver: of futures that nobody awaits, of threads whose event loop has closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVarTuple

Arguments = TypeVarTuple("Arguments")


def retrieve_exception(work: asyncio.Future[Any]) -> None:
    """A done callback that retrieves the exception, so that asyncio does not log it as never retrieved."""
    if not work.cancelled():
        work.exception()


def close_opened(opening: asyncio.Future[Any]) -> None:
    """A done callback that closes the stream that was opened, although its caller had gone."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def post(loop: asyncio.AbstractEventLoop, function: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    """Calls `function` on the loop, from any thread. Does nothing if the loop has closed, as no reader is left."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
