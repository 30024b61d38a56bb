"""How tests wait for what others do: until a condition holds, and until all tasks wait in their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | None], within_s: float = 60.0) -> T:
    """What the condition gives, once that counts as true. Raises: TimeoutError"""
    async with asyncio.timeout(within_s):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


async def settle() -> None:
    """Lets tasks run until they wait for something else than each other."""
    for _ in range(10):
        await asyncio.sleep(0)
