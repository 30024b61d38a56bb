"""The queue of the codec against two plain lists, in random orders of takes, cancels and ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from csm_bundle.errors import CodecBusyError
from services.codec.admission import Admission
from tests.support.virtual_time import settle


@pytest.mark.parametrize("seed", range(30))
async def test_the_queue_is_two_lists_of_which_one_goes_first(seed: int) -> None:
    rng = random.Random(seed)
    num_slots, max_waiting = rng.randint(1, 3), rng.randint(0, 4)
    admission, began = Admission(num_slots, max_waiting), list[int]()
    waiting: dict[bool, list[int]] = {True: [], False: []}  # calls by whether somebody listens
    expected: list[int] = []  # all that have begun, in order
    running: list[int] = []
    calls: dict[int, asyncio.Task[None]] = {}

    async def take(number: int, has_listener: bool) -> None:
        await admission.take(has_listener=has_listener)
        began.append(number)

    def begin(number: int) -> None:
        running.append(number)
        expected.append(number)

    for number in range(200):
        match rng.choice(("take", "take", "leave", "cancel", "leave and cancel")):
            case "take":
                has_listener = rng.random() < 0.5
                others = len(waiting[True]) + (0 if has_listener else len(waiting[False]))
                fits = others < max_waiting + (num_slots if has_listener else 0)
                call = calls[number] = asyncio.create_task(take(number, has_listener))
                await settle()
                if len(running) < num_slots:
                    begin(number)
                elif fits:
                    waiting[has_listener].append(number)
                else:
                    assert isinstance(call.exception(), CodecBusyError)
            case "leave" if running:
                running.remove(rng.choice(running))
                admission.leave()
                if queue := waiting[True] or waiting[False]:
                    begin(queue.pop(0))
            case "cancel" if waiting[True] or waiting[False]:
                queue = rng.choice([queue for queue in waiting.values() if queue])
                calls[queue.pop(rng.randrange(len(queue)))].cancel()
            case "leave and cancel" if running and (queue := waiting[True] or waiting[False]):
                running.remove(rng.choice(running))
                both: list[Callable[[], object]] = [
                    admission.leave,
                    calls[queue.pop(0)].cancel,
                ]  # whose turn it is, before it knows
                for happens in rng.sample(both, 2):
                    happens()
                if queue := waiting[True] or waiting[False]:
                    begin(queue.pop(0))
        await settle()
        assert began == expected
        assert admission.num_waiting == len(waiting[True]) + len(waiting[False])
        assert admission.num_calls == len(running) + admission.num_waiting
    for call in calls.values():
        call.cancel()
    await asyncio.gather(*calls.values(), return_exceptions=True)
