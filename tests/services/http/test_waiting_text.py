"""Text of WebSocket sessions that the gateway has not taken yet: how much it may be, and that it is given back."""

from __future__ import annotations

import pytest
from csm_client import AsyncClient

from services.http.api.bodies import Bodies
from services.http.endpoints import waiting_text
from services.http.endpoints.utterance import Utterance
from services.http.endpoints.waiting_text import WaitingText
from tests.services.http.test_websocket import Talk, talking
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually

LONG = "How are you? " * 30


async def while_one_speaks(door: FakeDoor, talk: Talk, *texts: str) -> None:
    """The first utterance speaks and does not end; these wait behind it."""
    door.behind.engine.script.pause_at = 1
    for text in ("One.", *texts):
        await talk.say(type="input.text", text=text)
        await talk.say(type="input.done")
        await door.behind.engine.script.paused.wait()


async def test_the_utterances_of_a_session_have_room_together(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_text, "MOST_CHARACTERS", 2 * len(LONG))
    async with talking(door, {}) as talk:
        await while_one_speaks(door, talk, LONG, LONG, "One more.")
        assert (await talk.next())["error"]["code"] == "text_too_fast"
        assert await talk.closed() == 1013
    await eventually(lambda: not door.stage.door.bodies.held, 10)


async def test_so_have_their_pieces(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_text, "MOST_PIECES", 20)
    async with talking(door, {}) as talk:
        await while_one_speaks(door, talk, *["Two."] * 10)
        for _ in range(11):
            await talk.say(type="input.text", text="Three.")
        assert (await talk.until("error"))[-1]["error"]["code"] == "text_too_fast"


async def test_waiting_texts_of_all_sessions_count_as_bodies() -> None:
    async with fake_door(max_bodies_bytes=2500) as door, talking(door, {}) as first, talking(door, {}) as second:
        bodies = door.stage.door.bodies
        await while_one_speaks(door, first, LONG, LONG, LONG)
        await eventually(lambda: bodies.held > 3 * len(LONG), 10)
        for _ in range(4):
            await second.say(type="input.text", text=LONG)
            await second.say(type="input.done")
        assert (await second.until("error"))[-1]["error"]["code"] == "too_many_bodies"
        assert await second.closed() == 1013
        await first.say(type="input.cancel")
        await first.until("audio.cancelled")
        await eventually(lambda: not bodies.held, 10)


async def test_an_utterance_gives_back_what_was_not_taken_of_it() -> None:
    bodies = Bodies(10**6)
    utterance = Utterance(AsyncClient("127.0.0.1:1"), {}, "pcm", "binary", WaitingText(bodies))
    utterance.push(LONG * 10, flush=True)
    assert bodies.held > 10 * len(LONG)
    assert (await anext(utterance._texts())).text == (LONG * 10)[:1000]
    utterance.end()
    utterance.drop()
    assert bodies.held == 0
