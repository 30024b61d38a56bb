"""What a WebSocket session takes as an utterance: pieces, also empty ones, texts without words, its configuration. And
how a session fails.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.services.http.test_websocket import talking
from tests.support.clock import Clock
from tests.support.cost.shared import SHARED
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import numbered_audio
from tests.support.waits import settle


@SHARED
async def test_an_empty_piece_is_a_piece(shared_door: FakeDoor) -> None:
    """Language models send empty pieces, even first. Only an empty text without `type` ends its utterance."""
    async with talking(shared_door, {}) as talk:
        for piece in ("", "Hello ", "", "there."):
            await talk.say(type="input.text", text=piece)
        await talk.say(type="input.done")
        found = await talk.until("session.done")
    assert [message["sentence_text"] for message in found if message["type"] == "audio.start"] == ["Hello there."]


@SHARED
async def test_a_surrogate_pair_may_be_cut_between_pieces(shared_door: FakeDoor) -> None:
    """JavaScript programs may cut inside a surrogate pair: the halves are joined, even across an empty piece."""
    pieces = ("Thumbs \ud83d", "\udc4d and \ud83d", "", "\ude00, ", "\ud83d", "\udc4d", "\ud83d\udc4d \U0001f600 yes.")
    async with talking(shared_door, {}) as talk:
        for piece in pieces:
            await talk.say(type="input.text", text=piece)
        await talk.say(type="input.done")
        start = (await talk.until("session.done"))[0]
        await talk.say(text="Hello \ud83d")  # dropped with its utterance
        await talk.say(type="input.cancel")
        await talk.until("audio.cancelled")
        await talk.say(text="Bye.", flush=True)
        assert (await talk.next())["sentence_text"] == "Bye."
    assert start["sentence_text"] == "Thumbs \U0001f44d and \U0001f600, \U0001f44d\U0001f44d \U0001f600 yes."


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"text": "a \ud83d b"}], "must be valid Unicode"),
        ([{"text": "\ude00"}], "must be valid Unicode"),
        ([{"text": "a\ud83d"}, {"text": "b"}], "must be valid Unicode"),
        ([{"text": "a\ud83d\ud83d"}], "must be valid Unicode"),
        ([{"text": "a\ud83d", "flush": True}], "is flushed within a surrogate pair"),
        ([{"text": "a\ud83d"}, {"type": "input.flush"}], "is flushed within a surrogate pair"),
        ([{"text": "a\ud83d"}, {"type": "input.done"}], "ends within a surrogate pair"),
        ([{"text": "\ud83d"}, {"text": ""}], "ends within a surrogate pair"),
    ],
)
@SHARED
async def test_half_a_surrogate_pair_that_no_piece_completes_is_a_wrong_text(
    shared_door: FakeDoor, messages: list[dict[str, Any]], why: str
) -> None:
    async with talking(shared_door, {}) as talk:
        for message in messages:
            await talk.say(**message)
        error = (await talk.until("error"))[-1]["error"]
        assert (error["param"], error["code"]) == ("text", "invalid_value") and why in error["message"]
        assert await talk.closed() == 1008


async def test_every_done_message_is_answered_in_order(door: FakeDoor) -> None:
    """Even the cancel of an utterance without text, whether an earlier one is still being spoken or not."""
    script = door.behind.engine.script
    script.pause_at = 1
    async with talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello.")
        await talk.say(type="input.done")
        await script.paused.wait()
        await talk.say(type="input.text", text="")
        await talk.say(type="input.done")
        await talk.say(type="input.text", text="Bye.")
        await talk.say(type="input.done")
        script.resume.set()
        async with asyncio.timeout(60):
            done = [(await talk.until("session.done"))[-1] for _ in range(3)]
    assert [each["total_sentences"] for each in done] == [1, 0, 1]
    assert len(door.behind.engine.calls) == 2


@pytest.mark.parametrize("text", [" ", "\n", ".", "\N{THUMBS UP SIGN}"])
@SHARED
async def test_an_utterance_without_words_is_answered_and_the_session_continues(
    shared_door: FakeDoor, text: str
) -> None:
    """So text that a writer still sends after a cancel does not end the session."""
    async with talking(shared_door, {}) as talk:
        await talk.say(type="input.cancel")
        await talk.say(type="input.text", text=text)
        await talk.say(type="input.done")
        cancelled, done = await talk.next(), await talk.next()
        assert cancelled["type"] == "audio.cancelled"
        assert done == {"type": "session.done", "total_sentences": 0}
        await talk.say(type="input.flush")  # nothing is there to end
        await talk.say(type="input.text", text="Hello.")
        await talk.say(type="input.done")
        assert (await talk.until("session.done"))[-1]["total_sentences"] == 1


@pytest.mark.parametrize("audio", ["binary", "base64"])
async def test_an_utterance_that_waits_keeps_the_configuration_with_which_it_was_given(
    door: FakeDoor, audio: str
) -> None:
    script = door.behind.engine.script
    script.pause_at = 2
    other = {"binary": "base64", "base64": "binary"}[audio]
    async with talking(door, {"audio": audio, "response_format": "pcm"}) as talk:
        for text in ("First.", "Second."):
            await talk.say(type="input.text", text=text)
            await talk.say(type="input.done")
        await script.paused.wait()
        await talk.say(type="session.config", audio=other, response_format="wav", voice="bo")
        await talk.say(type="input.text", text="Third.")
        await talk.say(type="input.done")
        script.pause_at = None
        script.resume.set()
        waited = [await talk.until("session.done") for _ in range(2)]
        assert (talk.audio_in, talk.audio) == ({audio}, 2 * numbered_audio(range(10)))
        talk.audio_in.clear()
        changed = await talk.until("session.done")
    assert talk.audio_in == {other}
    assert [found[0]["format"] for found in (*waited, changed)] == ["pcm", "pcm", "wav"]
    assert changed[-1]["voice"] == "bo" and "bo" not in [found[-1]["voice"] for found in waited]


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        ({"type": "input.text", "text": 7}, "text", "is 7; it must be a valid string"),
        ({"text": "a", "colour": 1}, "colour", "no parameter"),
        ({"type": "input.flush", "text": "a"}, "text", "no parameter"),
        ({"type": "input.music"}, "type", "is 'input.music'; it must be one of 'session.config', 'input.text'"),
        ({"text": "a" * 100_001}, "text", "has 100001 characters; at most 100000 are allowed"),
        (7, None, "The message must be a JSON object."),
    ],
)
@SHARED
async def test_the_wrong_field_of_a_message_is_named(
    shared_door: FakeDoor, message: Any, param: str, words: str
) -> None:
    async with talking(shared_door, {}) as talk:
        await talk._connection.send(json.dumps(message))
        error = (await talk.next())["error"]
        assert error["param"] == param and words in error["message"]


async def test_text_that_the_gateway_has_accepted_does_not_count_as_waiting(
    door: FakeDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that the gateway has accepted no longer waits."""
    monkeypatch.setattr("services.http.endpoints.waiting_text.MOST_CHARACTERS", 20)
    async with talking(door, {}) as talk:
        for _ in range(4):
            await talk.say(type="input.text", text="Hello there.", flush=True)
            assert (await talk.until("audio.start"))[-1]["sentence_text"] == "Hello there."
        await talk.say(type="input.done")
        assert (await talk.until("session.done"))[-1]["total_sentences"] == 4


async def test_a_session_is_not_idle_while_it_speaks(clock: Clock) -> None:
    idle_s = 8.0  # twice that is less than a ping may take
    async with fake_door(websocket_idle_seconds=idle_s) as door, talking(door, {}) as talk:
        script = door.behind.engine.script
        script.pause_at = 1
        await talk.say(type="input.text", text="One.")
        await talk.say(type="input.done")
        await script.paused.wait()
        clock.put_forward(idle_s)
        await settle()
        script.resume.set()
        await talk.until("session.done")
        clock.put_forward(idle_s)
        assert await talk.closed() == 1001


async def test_a_cancel_drops_every_utterance_that_waits(door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = 1
    async with talking(door, {}) as talk:
        for words in ("One.", "Two.", "Three."):
            await talk.say(type="input.text", text=words)
            await talk.say(type="input.done")
        await script.paused.wait()
        await talk.say(type="input.cancel")
        await talk.until("audio.cancelled")
        script.resume.set()
        await talk.say(type="input.text", text="Four.")
        await talk.say(type="input.done")
        found = await talk.until("session.done")
    assert [message["sentence_text"] for message in found if message["type"] == "audio.start"] == ["Four."]


async def sessions(door: FakeDoor, status: str) -> bool:
    """Whether one has ended with that status, and none with another."""
    async with asyncio.timeout(60):
        while not (counts := re.findall(r"http_requests_total{method=.WEBSOCKET.*", await metrics(door))):
            await asyncio.sleep(0.01)
    return len(counts) == 1 and f'status="{status}"' in counts[0]


async def metrics(door: FakeDoor) -> str:
    return (await door.client.get("/metrics")).text


async def test_a_failure_in_the_middle_sends_an_error_and_no_done(door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = script.fail_at = 5
    async with talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello there. ", flush=True)
        assert (await talk.next())["type"] == "audio.start"
        script.resume.set()
        error = await talk.next()
        assert error["type"] == "error" and error["error"]["type"] == "server_error"
        assert await talk.closed() == 1011
    assert await sessions(door, "broken")


async def test_a_session_ended_by_a_client_error_does_not_count_as_broken(door: FakeDoor) -> None:
    async with talking(door, {}) as talk:
        await talk.say(type="input.music")
        assert await talk.closed() == 1008
    assert await sessions(door, "101")


async def test_an_unexpected_exception_is_sent_as_an_error(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(door, {}) as talk:
        monkeypatch.setattr("services.http.endpoints.websocket.Utterance", lambda *_: 1 // 0)
        await talk.say(type="input.text", text="Hello there.")
        assert (await talk.next())["error"]["code"] == "internal"
        assert await talk.closed() == 1011
    assert await sessions(door, "broken")


async def test_a_client_that_is_idle_within_a_text_gets_an_error() -> None:
    async with fake_door({"text_idle_seconds": 0.2}) as door, talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello")
        assert (await talk.next())["error"]["code"] == "text_stalled"
        assert await talk.closed() == 1008
