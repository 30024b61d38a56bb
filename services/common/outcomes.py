"""Futures whose result may not be awaited by anyone."""

from __future__ import annotations

import asyncio
from typing import Any


def retrieve_exception(work: asyncio.Future[Any]) -> None:
    """A done callback that retrieves the exception, so that asyncio does not log it as never retrieved."""
    if not work.cancelled():
        work.exception()


def close_result(opening: asyncio.Future[Any]) -> None:
    """A done callback that closes what was opened just before its opening was cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
