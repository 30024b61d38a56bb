"""How tests wait: until a condition holds, or until all tasks of the loop are blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | None], within_s: float = 60.0) -> T:
    """Waits until the condition returns something true, and returns that. Raises: TimeoutError."""
    async with asyncio.timeout(within_s):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


async def settle() -> None:
    """Lets the other tasks run until they wait for more than each other."""
    for _ in range(10):
        await asyncio.sleep(0)
