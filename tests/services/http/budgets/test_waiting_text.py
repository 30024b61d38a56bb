"""Text of WebSocket sessions that waits for the gateway: its limit, and that its budget is given back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from csm_client import AsyncClient
from websockets.exceptions import ConnectionClosed

from services.http.api.bodies import FREE_BYTES, Bodies
from services.http.endpoints import waiting_text
from services.http.endpoints.utterance import Utterance
from services.http.endpoints.waiting_text import WaitingText
from tests.services.http.test_websocket import Talk, talking
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually

LONG = "How are you? " * 30


async def while_one_speaks(door: FakeDoor, talk: Talk, *texts: str) -> None:
    """Utterances that wait behind a first one, which does not end."""
    door.behind.engine.script.pause_at = 1
    for text in ("One.", *texts):
        await talk.say(type="input.text", text=text)
        await talk.say(type="input.done")
        await door.behind.engine.script.paused.wait()


async def test_waiting_utterances_of_a_session_share_a_limit(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_text, "MOST_CHARACTERS", 2 * len(LONG))
    async with talking(door, {}) as talk:
        await while_one_speaks(door, talk, LONG, LONG, "One more.")
        # Audio of the first utterance may come before.
        assert (await talk.until("error"))[-1]["error"]["code"] == "text_too_fast"
        assert await talk.closed() == 1013
    await eventually(lambda: not door.stage.door.bodies.held)


async def test_waiting_pieces_of_a_session_share_a_limit(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_text, "MOST_PIECES", 20)
    async with talking(door, {}) as talk:
        await while_one_speaks(door, talk, *["Two."] * 10)
        for _ in range(11):
            await talk.say(type="input.text", text="Three.")
        assert (await talk.until("error"))[-1]["error"]["code"] == "text_too_fast"


async def test_waiting_texts_of_all_sessions_count_as_bodies() -> None:
    # Room for the texts of the first, and for its messages, which count too while the session has not read them.
    async with fake_door(max_bodies_bytes=30_000) as door, talking(door, {}) as first, talking(door, {}) as second:
        bodies = door.stage.door.bodies
        await while_one_speaks(door, first, *[LONG] * 18)
        await eventually(lambda: bodies.held > 18 * len(LONG) - FREE_BYTES)
        with suppress(ConnectionClosed):
            for _ in range(60):
                await second.say(type="input.text", text=LONG)
                await second.say(type="input.done")
        assert await second.closed() == 1013
        await first.say(type="input.cancel")
        await first.until("audio.cancelled")
        await eventually(lambda: not bodies.held)


async def test_a_few_words_are_accepted_although_the_budget_is_used_up() -> None:
    async with fake_door(max_bodies_bytes=4096) as door, talking(door, {}) as talk:
        door.stage.door.bodies.take(4096)
        await while_one_speaks(door, talk, "Two.", "Three.")
        door.behind.engine.script.resume.set()
        for _ in range(3):
            await talk.until("session.done")


async def test_messages_that_wait_for_their_session_count_as_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = asyncio.Event()

    async def configure(*_: Any) -> None:
        await may_go_on.wait()

    monkeypatch.setattr("services.http.endpoints.websocket._Session._configure", configure)
    async with fake_door(max_bodies_bytes=100_000) as door, talking(door) as first, talking(door) as second:
        bodies = door.stage.door.bodies
        for talk in (first, second):
            await talk.say(type="session.config")
            await asyncio.sleep(0.1)
        await first.say(type="input.text", text="a" * 60_000)
        await eventually(lambda: bodies.held > 60_000 - FREE_BYTES)
        await second.say(type="input.text", text="a" * 60_000)
        assert await second.closed() == 1013
        for _ in range(1000):  # short texts cost more memory than their bytes
            await first.say(type="input.flush")
        may_go_on.set()
        assert (await first.next())["type"] == "error"  # there is no client to be asked
        await eventually(lambda: not bodies.held)


async def test_an_utterance_releases_its_unread_text() -> None:
    bodies = Bodies(10**6)
    utterance = Utterance(AsyncClient("127.0.0.1:1"), {}, "pcm", "binary", WaitingText(bodies))
    utterance.push(LONG * 20, flush=True)
    assert bodies.held > 20 * len(LONG) - FREE_BYTES
    assert (await anext(utterance._texts())).text == (LONG * 20)[:1000]
    utterance.end()
    utterance.drop()
    assert bodies.held == 0


def test_pieces_that_wait_no_more_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_text, "MOST_PIECES", 2)
    monkeypatch.setattr(waiting_text, "MOST_CHARACTERS", 10)
    waiting = WaitingText(Bodies(10**6))
    for _ in range(5):
        waiting.check("five.")
        waiting.add(("five.", False))
        waiting.remove(("five.", False))
