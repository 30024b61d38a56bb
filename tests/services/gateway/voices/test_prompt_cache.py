"""A prompt that several calls need is made once, and the others wait for it, whichever call is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.gateway.stages.catalog import Catalog
from services.gateway.voices import prompts
from services.gateway.voices.prompts import PromptCache
from services.gateway.voices.voice import Prompt
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

    async def come(self) -> asyncio.Task[Prompt]:
        """Starts another call, and returns when it waits."""
        call = asyncio.create_task(self.cache.get("digest", CATALOG, self.maker.make))
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


async def test_a_prompt_whose_maker_was_cancelled_is_made_by_a_waiter(callers: Callers) -> None:
    first, second = await callers.come(), await callers.come()
    first.cancel()
    await settle()
    third = await callers.come()
    callers.maker.may.set()
    assert await second is await third
    assert (callers.maker.made, callers.maker.most_at_once) == (1, 1)


async def test_the_cache_holds_the_most_recently_used_prompts_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "MAX_HELD", 2)
    cache, made = PromptCache(), []

    async def use(digest: str) -> None:
        async def make() -> Prompt:
            made.append(digest)
            return Prompt("Hello.", fake_frames(0, 1))

        await cache.get(digest, CATALOG, make)

    for digest in ("a", "b", "a", "c", "a", "b"):
        await use(digest)
    assert made == ["a", "b", "c", "b"]
