"""How tests wait: until a condition holds, until all tasks of the loop are blocked, or for a stage's next message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | None]) -> T:
    """Waits until the condition returns something true, and returns that. Raises: TimeoutError."""
    async with asyncio.timeout(60.0):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


async def settle() -> None:
    """Lets the other tasks run until they wait for more than each other."""
    for _ in range(10):
        await asyncio.sleep(0)


async def read_event(call: Any) -> Any:
    """The next message of a stage's stream but `progress`, which a busy stage may send at any place."""
    while (message := await call.read()) and message.WhichOneof("event") == "progress":
        pass
    return message
