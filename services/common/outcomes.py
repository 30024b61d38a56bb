"""The ends of tasks: outcomes that are not awaited, an event loop that has closed, and where a cancellation is from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVarTuple

Arguments = TypeVarTuple("Arguments")


def is_task_cancelled() -> bool:
    """Whether the current task is cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


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
