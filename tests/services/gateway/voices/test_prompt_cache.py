"""A prompt that several calls need is made once, whichever of them end before it is made."""

from __future__ import annotations

import asyncio

import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.gateway.stages.catalog import Catalog
from services.gateway.voices import prompt_cache
from services.gateway.voices.prompt_cache import LATE_S, MAX_LEFT, PromptCache
from services.gateway.voices.prompts import BrokenPromptError
from services.gateway.voices.voice import Prompt
from tests.support.clock import Clock
from tests.support.fake_stages import fake_frames, fake_identity
from tests.support.waits import settle

CATALOG = Catalog(engine_pb2.GetModelInfoResponse(), codec_pb2.GetCodecInfoResponse(codec=fake_identity()))


class Maker:
    """Makes a prompt when the test says so."""

    def __init__(self) -> None:
        self.making = self.most_at_once = self.made = 0
        self.may = asyncio.Event()

    async def make(self) -> Prompt:
        self.making += 1
        self.most_at_once = max(self.most_at_once, self.making)
        try:
            await self.may.wait()
            self.made += 1
            return Prompt("Hello.", fake_frames(0, 1))
        finally:
            self.making -= 1


class Callers:
    """Calls that need the same prompt."""

    def __init__(self) -> None:
        self.cache, self.maker = PromptCache(), Maker()

    async def come(self, digest: str = "digest") -> asyncio.Task[Prompt]:
        """Starts another call, and returns when it waits."""
        call = asyncio.create_task(self.cache.get(digest, CATALOG, self.maker.make))
        await settle()
        return call


@pytest.fixture
def callers() -> Callers:
    return Callers()


async def test_a_prompt_is_made_once_although_a_waiter_was_cancelled(callers: Callers) -> None:
    first, second = await callers.come(), await callers.come()
    second.cancel()
    await settle()
    third = await callers.come()
    callers.maker.may.set()
    assert await first is await third
    assert (callers.maker.made, callers.maker.most_at_once) == (1, 1)


async def test_a_prompt_goes_on_being_made_when_the_first_call_for_it_ends(callers: Callers) -> None:
    first, second = await callers.come(), await callers.come()
    first.cancel()
    await settle()
    third = await callers.come()
    callers.maker.may.set()
    assert await second is await third
    assert (callers.maker.made, callers.maker.most_at_once) == (1, 1)


async def test_a_prompt_that_takes_longer_than_every_deadline_is_made_once(callers: Callers) -> None:
    for _ in range(3):
        (await callers.come()).cancel()
        await settle()
    callers.maker.may.set()
    await settle()
    assert (await (await callers.come())).text == "Hello."
    assert (callers.maker.made, callers.maker.most_at_once) == (1, 1)


async def test_few_prompts_are_made_while_no_call_waits_for_them(callers: Callers) -> None:
    waiting = await callers.come("waited for")
    for number in range(MAX_LEFT + 3):
        (await callers.come(str(number))).cancel()
        await settle()
    assert callers.maker.making == 1 + MAX_LEFT
    again = await callers.come(str(MAX_LEFT + 1))  # one that was given up
    assert callers.maker.making == 2 + MAX_LEFT
    callers.maker.may.set()
    assert (await waiting, await again) and callers.maker.made == 2 + MAX_LEFT


async def test_prompts_that_are_made_leave_room_for_those_being_made(callers: Callers) -> None:
    callers.maker.may.set()
    for number in range(MAX_LEFT + 1):
        await (await callers.come(f"made {number}"))
    callers.maker.may.clear()
    (await callers.come("left")).cancel()
    await settle()
    assert callers.maker.making == 1


@pytest.mark.parametrize("first_is_faster", [False, True])
async def test_a_prompt_that_is_late_is_begun_again_by_the_next_call_and_all_get_the_one_made_first(
    clock: Clock, callers: Callers, first_is_faster: bool
) -> None:
    """The first one may hang until its time limit, and would fail the call that began it."""
    first = await callers.come()
    clock.put_forward(LATE_S - 1)
    (await callers.come()).cancel()
    await settle()
    assert callers.maker.making == 1
    clock.put_forward(1)
    late, callers.maker = callers.maker, Maker()
    second, third = await callers.come(), await callers.come()
    assert (late.making, callers.maker.making) == (1, 1)
    (late if first_is_faster else callers.maker).may.set()
    await settle()
    assert first.done() and await first is await second is await third
    assert (late.making, callers.maker.making) == (0, 0)
    assert (late.made, callers.maker.made) == ((1, 0) if first_is_faster else (0, 1))


async def test_a_late_prompt_that_fails_leaves_the_one_that_was_begun_after_it(clock: Clock, callers: Callers) -> None:
    fails = asyncio.Event()

    async def fail() -> Prompt:
        await fails.wait()
        raise RuntimeError("of the first")

    first = asyncio.create_task(callers.cache.get("digest", CATALOG, fail))
    await settle()
    clock.put_forward(LATE_S)
    second = await callers.come()
    fails.set()
    with pytest.raises(RuntimeError):
        await first
    third = await callers.come()
    assert callers.maker.making == 1
    callers.maker.may.set()
    assert await second is await third


async def test_late_prompts_are_few_too_and_end_with_the_cache(clock: Clock, callers: Callers) -> None:
    for _ in range(MAX_LEFT + 2):
        (await callers.come()).cancel()
        clock.put_forward(LATE_S)
        await settle()
    assert callers.maker.making == MAX_LEFT
    callers.cache.close()
    await settle()
    assert callers.maker.making == 0


async def test_a_failure_is_that_of_the_call_that_began_and_the_others_try_themselves(callers: Callers) -> None:
    failing = [RuntimeError("of the first"), RuntimeError("of the second")]

    async def make() -> Prompt:
        await callers.maker.may.wait()
        if failing:
            raise failing.pop(0)
        return Prompt("Hello.", fake_frames(0, 1))

    calls = [asyncio.create_task(callers.cache.get("digest", CATALOG, make)) for _ in range(3)]
    await settle()
    callers.maker.may.set()
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert (str(first), str(second)) == ("of the first", "of the second") and isinstance(third, Prompt)


async def test_a_prompt_that_breaks_while_no_call_waits_is_reported_to_the_next_one_as_new(callers: Callers) -> None:
    async def broken() -> Prompt:
        await callers.maker.may.wait()
        raise BrokenPromptError("it is noise.")

    leaving = asyncio.create_task(callers.cache.get("digest", CATALOG, broken))
    await settle()
    leaving.cancel()
    callers.maker.may.set()
    await settle()
    for is_new in (True, False):
        with pytest.raises(BrokenPromptError, match="it is noise") as refused:
            await callers.cache.get("digest", CATALOG, callers.maker.make)
        assert refused.value.is_new == is_new


async def test_a_call_cancelled_as_its_prompt_is_made_ends_as_cancelled(callers: Callers) -> None:
    call = await callers.come()
    callers.maker.may.set()
    while not callers.maker.made:
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()


async def test_a_closed_cache_makes_no_prompt(callers: Callers) -> None:
    call = await callers.come()
    callers.cache.close()
    await settle()
    assert callers.maker.making == 0 and call.cancelled()


async def test_the_cache_holds_the_most_recently_used_prompts_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "MAX_HELD", 2)
    cache, made = PromptCache(), []

    async def use(digest: str) -> None:
        async def make() -> Prompt:
            made.append(digest)
            return Prompt("Hello.", fake_frames(0, 1))

        await cache.get(digest, CATALOG, make)

    for digest in ("a", "b", "a", "c", "a", "b"):
        await use(digest)
    assert made == ["a", "b", "c", "b"]


async def test_the_cache_remembers_few_broken_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "MAX_HELD", 2)
    cache, read = PromptCache(), []

    async def use(digest: str) -> None:
        async def make() -> Prompt:
            read.append(digest)
            raise BrokenPromptError("it is noise.")

        with pytest.raises(BrokenPromptError):
            await cache.get(digest, CATALOG, make)

    for digest in ("a", "b", "c", "c", "b", "a"):
        await use(digest)
    assert read == ["a", "b", "c", "a"]
