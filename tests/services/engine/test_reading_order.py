"""Which text is read next: a listener's, then short before long ones; and none waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from csm_engine.types import GenerationRequest, Segment
from services.engine.reading_order import ReadingOrder
from tests.support.waits import eventually


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def order(now: list[float]) -> ReadingOrder:
    return ReadingOrder(clock=lambda: now[0])


@pytest.fixture
def wait_for_turn(order: ReadingOrder) -> Callable[[str, GenerationRequest], Awaitable[asyncio.Task[None]]]:
    async def wait(name: str, request: GenerationRequest) -> asyncio.Task[None]:
        task = asyncio.create_task(order.acquire(request), name=name)
        await asyncio.sleep(0)
        return task

    return wait


Wait = Callable[[str, GenerationRequest], Awaitable[asyncio.Task[None]]]


def request(*num_characters: int, has_listener: bool = False) -> GenerationRequest:
    segments = [Segment(speaker=0, text="x" * number) for number in num_characters]
    return GenerationRequest("a", segments, max_frames=1, has_listener=has_listener)


async def turns(order: ReadingOrder, tasks: list[asyncio.Task[None]]) -> list[str]:
    """The names of the tasks in the order in which their turns come, one at a time."""
    names, waiting = [], set(tasks)
    while waiting:
        order.release()
        done, waiting = await asyncio.wait(waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        (task,) = done
        names.append(task.get_name())
    order.release()
    return names


async def test_short_texts_overtake_long_ones(order: ReadingOrder, wait_for_turn: Wait) -> None:
    await order.acquire(request(1))
    tasks = [
        await wait_for_turn(name, text)
        for name, text in [("long", request(900)), ("with a context", request(500, 20)), ("short", request(20))]
    ]
    assert await turns(order, tasks) == ["short", "with a context", "long"]


async def test_equal_texts_are_read_in_order_of_arrival(order: ReadingOrder, wait_for_turn: Wait) -> None:
    await order.acquire(request(1))
    tasks = [await wait_for_turn(str(index), request(20)) for index in range(5)]
    assert await turns(order, tasks) == ["0", "1", "2", "3", "4"]


async def test_a_listeners_text_is_read_first(order: ReadingOrder, wait_for_turn: Wait) -> None:
    await order.acquire(request(1))
    tasks = [
        await wait_for_turn("short", request(20)),
        await wait_for_turn("long, heard", request(900, has_listener=True)),
    ]
    assert await turns(order, tasks) == ["long, heard", "short"]


async def test_a_long_text_is_overtaken_only_until_its_time_limit(
    order: ReadingOrder, wait_for_turn: Wait, now: list[float]
) -> None:
    """900 characters are a minute of speech, and this is longer."""
    await order.acquire(request(1))
    long = await wait_for_turn("long", request(9000))
    now[0] = 50.0
    before = await wait_for_turn("before it is due", request(15))
    now[0] = 60.0
    behind = await wait_for_turn("when it is due", request(15))
    assert await turns(order, [long, before, behind]) == ["before it is due", "long", "when it is due"]


async def test_a_cancelled_request_passes_its_turn_to_the_next(order: ReadingOrder, wait_for_turn: Wait) -> None:
    """Whether it is cancelled while it waits, or just when its turn has come."""
    await order.acquire(request(1))
    first, second, third = [await wait_for_turn(str(index), request(20)) for index in range(3)]
    first.cancel()
    await eventually(first.done)
    order.release()  # it is the second one's turn, which is cancelled before it can run
    second.cancel()
    await asyncio.wait_for(third, 60)
    assert first.cancelled() and second.cancelled()
    order.release()
    await asyncio.wait_for(order.acquire(request(1)), 60)


async def test_requests_that_are_cancelled_as_a_pause_begins_end_no_turn(
    order: ReadingOrder, wait_for_turn: Wait
) -> None:
    await order.acquire(request(1))
    first, second = [await wait_for_turn(str(index), request(20)) for index in range(2)]
    first.cancel()
    await eventually(first.done)
    order.pause("a hang")
    second.cancel()
    await eventually(second.done)
    assert first.cancelled() and second.cancelled()
    order.go_on()
    third = await wait_for_turn("third", request(20))
    assert not third.done(), "the turn from before the pause has not ended"
    order.release()
    await asyncio.wait_for(third, 60)
