"""Looks at the outcome of work that nobody may be left to wait for."""

from __future__ import annotations

import asyncio
from typing import Any


def look_at_outcome(work: asyncio.Future[Any]) -> None:
    """A done callback: reads the outcome, so that asyncio does not warn of an exception that was never retrieved."""
    if not work.cancelled():
        work.exception()
