"""The end of a call whose caller still writes: what is read on, for how long, and what a cancelled read costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from services.common.rpc import lingering as module
from services.common.rpc.lingering import IncomingMessages, lingering


async def numbers(count: int, pause_s: float = 0.0) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(pause_s)
        yield number


async def silence() -> AsyncIterator[int]:
    await asyncio.sleep(3600)
    yield 0


async def test_a_cancelled_read_loses_no_message() -> None:
    messages = IncomingMessages(numbers(3, 0.05))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(messages)
    assert [number async for number in messages] == [0, 1, 2]
    assert [number async for number in messages] == []


async def test_what_a_caller_still_writes_is_read_before_the_failure() -> None:
    read: list[int] = []

    async def requests() -> AsyncIterator[int]:
        async for number in numbers(20, 0.005):
            read.append(number)
            yield number

    async def fail(incoming: AsyncIterator[int], context: object) -> None:
        assert await anext(incoming) == 0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await lingering(fail)(requests(), None)
    assert read == list(range(20))


@pytest.mark.parametrize("requests", [silence, lambda: numbers(10**6, 0.005)], ids=["quiet", "never done"])
async def test_the_end_waits_for_a_moment_only(
    requests: Callable[[], AsyncIterator[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.2)

    async def answer(incoming: AsyncIterator[int], context: object) -> str:
        return "done"

    began_s = time.monotonic()
    async with asyncio.timeout(30):
        assert await lingering(answer)(requests(), None) == "done"
    assert time.monotonic() - began_s >= 0.05
