"""WS /v1/audio/stream: pieces of text in, sentence events and audio out; flush, cancel, limits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import numbered_audio
from tests.support.waits import eventually


class Talk:
    """A client of one WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.audio = b""
        self.audio_in: set[str] = set()  # messages of these kinds

    async def say(self, **message: Any) -> None:
        await self._connection.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        """The next message that is not audio."""
        while isinstance(message := await asyncio.wait_for(self._connection.recv(), 20), bytes):
            self.audio += message
            self.audio_in.add("binary")
        found: dict[str, Any] = json.loads(message)
        if found["type"] == "audio.delta":
            self.audio += base64.b64decode(found["audio"])
            self.audio_in.add("base64")
            return await self.next()
        return found

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to the first of that type."""
        found = [await self.next()]
        while found[-1]["type"] != kind:
            found.append(await self.next())
        return found

    async def closed(self) -> int:
        """The code with which the server closes the connection."""
        await asyncio.wait_for(self._connection.wait_closed(), 20)
        assert self._connection.close_code is not None
        return self._connection.close_code

    async def leave(self) -> None:
        self._connection.transport.abort()


@asynccontextmanager
async def talking(door: FakeDoor, config: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Talk]:
    async with talk_at(door.url, config, **options) as talk:
        yield talk


@asynccontextmanager
async def talk_at(url: str, config: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Talk]:
    """Connects to the door at that URL."""
    url = url.replace("http", "ws", 1) + "/v1/audio/stream"
    async with connect(url, proxy=None, max_size=None, **options) as connection:
        talk = Talk(connection)
        if config is not None:
            await talk.say(type="session.config", **config)
            assert (await talk.next())["type"] == "session.created"
        yield talk


@pytest.mark.parametrize("audio", ["binary", "base64"])
async def test_text_in_pieces_becomes_marked_audio(door: FakeDoor, audio: str) -> None:
    door.behind.engine.frame_counts = [3, 4]
    async with talking(door, {"voice": "nova", "audio": audio}) as talk:
        for piece in ("Hel", "lo the", "re. How ", "are you?"):
            await talk.say(type="input.text", text=piece)
        await talk.say(type="input.done")
        found = await talk.until("session.done")
    kinds = [message["type"] for message in found]
    assert kinds == ["audio.start", "audio.done", "audio.start", "audio.done", "session.done"]
    assert [found[0]["sentence_text"].strip(), found[2]["sentence_text"].strip()] == ["Hello there.", "How are you?"]
    assert (found[0]["sample_offset"], found[2]["sample_offset"]) == (0, 3 * 1920)
    assert found[-1]["total_sentences"] == 2 and found[-1]["voice"] == "ada"
    assert talk.audio == numbered_audio(range(3)) + numbered_audio(range(4))


async def test_the_text_messages_of_elevenlabs_work(door: FakeDoor) -> None:
    async with talking(door, {}) as talk:
        await talk.say(text="Hello there ")
        await talk.say(text="you.", flush=True)
        await talk.say(text="")
        found = await talk.until("session.done")
    assert found[-1]["total_sentences"] == 1 and talk.audio == numbered_audio(range(10))


async def test_flush_speaks_a_sentence_without_its_full_stop(door: FakeDoor) -> None:
    async with talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello there")
        await talk.say(type="input.flush")
        start = await talk.next()
        assert start["type"] == "audio.start" and start["sentence_text"].strip() == "Hello there"


async def test_a_cancel_stops_the_engine_and_the_session_continues(door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = 6
    async with talking(door, {"voice": "bo"}) as talk:
        await talk.say(type="input.text", text="A long story. ", flush=True)
        assert (await talk.next())["type"] == "audio.start"
        await script.paused.wait()
        await talk.say(type="input.cancel")
        stopped = (await talk.until("audio.cancelled"))[-1]
        assert stopped["sentence_index"] == 0 and stopped["sent_samples"] == len(talk.audio) // 2 > 0
        call = door.behind.engine.calls[0]
        await asyncio.wait_for(call.ended.wait(), 60)
        assert call.error == "CancelledError"
        script.pause_at = None
        talk.audio = b""
        await talk.say(type="input.text", text="Another one.")
        await talk.say(type="input.done")
        await talk.until("session.done")
        assert talk.audio == numbered_audio(range(10))


async def test_a_disconnect_stops_the_engine(door: FakeDoor) -> None:
    script = door.behind.engine.script
    script.pause_at = 2
    async with talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello there. ", flush=True)
        await script.paused.wait()
        await talk.leave()
        await asyncio.wait_for(door.behind.engine.calls[0].ended.wait(), 60)
    assert door.behind.engine.calls[0].error == "CancelledError"


async def test_a_websocket_closed_while_sending_counts_as_disconnected(
    door: FakeDoor, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a missed pong, while bytes are still on their way to a slow client."""
    script = door.behind.engine.script
    script.pause_at = 6
    async with talking(door, {}) as talk:
        await talk.say(type="input.text", text="Hello there. ", flush=True)
        await script.paused.wait()
        (connection,) = door.stage.server.connections()
        with pytest.MonkeyPatch.context() as flushing:
            flushing.setattr(connection, "close", lambda: None)
            connection.get_protocol().keepalive_timeout()  # type: ignore[attr-defined]
            script.resume.set()
            await asyncio.wait_for(door.behind.engine.calls[0].ended.wait(), 60)
            await eventually(lambda: not door.stage.door.streams.count)
        connection.close()
        assert await talk.closed() == 1011
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_utterances_are_spoken_in_turn(door: FakeDoor) -> None:
    door.behind.engine.frame_counts = [2, 3]
    async with talking(door, {}) as talk:
        for text in ("First.", "Second."):
            await talk.say(type="input.text", text=text)
            await talk.say(type="input.done")
        first, second = await talk.until("session.done"), await talk.until("session.done")
    assert first[0]["sentence_text"].strip() == "First." and second[0]["sentence_text"].strip() == "Second."
    assert talk.audio == numbered_audio(range(2)) + numbered_audio(range(3))


async def test_done_without_text_is_answered(door: FakeDoor) -> None:
    async with talking(door, {}) as talk:
        await talk.say(type="input.done")
        assert await talk.next() == {"type": "session.done", "total_sentences": 0}


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"response_format": "midi"}, "response_format"),
        ({"speed": 40.0}, "speed"),
        ({"model": "gpt-9"}, "model"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_wrong_config_is_named_and_closes(door: FakeDoor, config: dict[str, Any], param: str) -> None:
    async with talking(door) as talk:
        await talk.say(type="session.config", **config)
        error = await talk.next()
        assert error["type"] == "error" and error["error"]["param"] == param
        assert await talk.closed() == 1008


@pytest.mark.parametrize("message", [{"type": "input.text", "text": "Hello."}, {"text": "Hello."}])
async def test_a_text_before_the_config_is_refused_with_the_expected_order(
    door: FakeDoor, message: dict[str, str]
) -> None:
    async with talking(door) as talk:
        await talk._connection.send(json.dumps(message))
        error = (await talk.next())["error"]
        assert "session.config" in error["message"] and error["code"] == "invalid_value"
        assert await talk.closed() == 1008


@pytest.mark.parametrize("message", ["{", '{"type": "input.music"}', '{"text": 5}', "[" * 50_000])
async def test_a_malformed_message_closes_the_websocket(door: FakeDoor, message: str) -> None:
    async with talking(door, {}) as talk:
        await talk._connection.send(message)
        assert (await talk.next())["type"] == "error"
        assert await talk.closed() == 1008


async def test_message_of_many_values_is_refused(door: FakeDoor) -> None:
    async with talking(door, {}) as talk:
        await talk.say(type="session.config", context=[{}] * 30_000)
        error = await talk.next()
        assert error["error"]["code"] == "body_too_large" and await talk.closed() == 1008


async def test_unknown_voice_is_named_when_it_is_first_needed(door: FakeDoor) -> None:
    async with talking(door, {"voice": "nobody"}) as talk:
        await talk.say(type="input.text", text="Hello. ")
        await talk.say(type="input.done")
        error = await talk.next()
        assert error["error"]["code"] == "voice_not_found" and await talk.closed() == 1008


async def test_page_of_another_origin_may_not_call() -> None:
    async with fake_door(cors_origins="https://good.example") as door:
        with pytest.raises(InvalidStatus) as caught:
            async with talking(door, origin="https://bad.example"):
                pass
        assert caught.value.response.status_code == 403
        for origin in ("https://good.example", door.url):
            async with talking(door, {}, origin=origin):
                pass


async def test_silent_and_late_clients_are_closed() -> None:
    async with fake_door(websocket_idle_seconds=0.2) as door, talking(door, {}) as talk:
        assert await talk.closed() == 1001
    async with fake_door(header_timeout_seconds=0.2) as door, talking(door) as talk:
        assert (await talk.next())["error"]["code"] == "config_too_slow"


async def test_drain_lets_speech_end_and_closes_with_restart() -> None:
    async with fake_door(drain_seconds=20.0) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        async with talking(door, {}) as talk, talking(door, {}) as idle, talking(door) as silent:
            await talk.say(type="input.text", text="Hello there.")
            await talk.say(type="input.done")
            await script.paused.wait()
            stopping = asyncio.create_task(door.stage.stop())
            assert await idle.closed() == await silent.closed() == 1012
            script.resume.set()
            await talk.until("session.done")
            assert talk.audio == numbered_audio(range(10)) and await talk.closed() == 1012
            await stopping


async def test_text_far_ahead_of_the_speech_is_refused(door: FakeDoor) -> None:
    door.behind.engine.script.pause_at = 0
    async with talking(door, {}) as talk:
        with pytest.raises(ConnectionClosed):
            for _ in range(2_000):
                await talk.say(type="input.text", text="word " * 10_000)
        assert await talk.closed() == 1013


async def test_the_request_id_of_a_session_reaches_the_gateway(door: FakeDoor) -> None:
    own = "11111111-2222-4333-8444-555555555555"
    async with talking(door, {}, additional_headers={"X-Request-Id": own}) as talk:
        await talk.say(type="input.text", text="Hello.", flush=True)
        await talk.until("audio.start")
    assert door.behind.engine.calls[0].metadata["x-request-id"] == own


async def test_token_may_be_in_the_first_message(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"name": "ann", "sha256": hashlib.sha256(b"sesame").hexdigest()}]))
    async with fake_door({"auth_tokens_file": tokens}) as door:
        async with talking(door, {"token": "sesame"}):
            pass
        async with talking(door, {}, additional_headers={"Authorization": "Bearer sesame"}):
            pass
        async with talking(door) as talk:
            await talk.say(type="session.config", token="other")
            error = await talk.next()
            assert error["error"]["type"] == "authentication_error" and await talk.closed() == 1008
