"""How streams end: a caller that disconnects cancels the work, and a broken stream never looks complete."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from csm_client import IncompleteAudioError

from services.http import server
from services.http.api.front import BROKEN
from services.http.endpoints.audio_response import AudioResponse
from services.http.endpoints.speech_request import SpeechRequest
from tests.services.http.test_websocket import talking
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import numbered_audio
from tests.support.waits import eventually

SPEECH = "/v1/audio/speech"


@pytest.mark.parametrize("pause_at", [0, 3])
async def test_a_disconnect_cancels_the_gateway_s_call(door: FakeDoor, body: dict[str, Any], pause_at: int) -> None:
    script = door.behind.engine.script
    script.pause_at = pause_at
    asking = asyncio.create_task(door.client.post(SPEECH, json=body))
    await script.paused.wait()
    asking.cancel()
    call = door.behind.engine.calls[0]
    await asyncio.wait_for(call.ended.wait(), 60)
    assert call.error == "CancelledError"
    await _until_no_stream(door)
    assert 'route="/v1/audio/speech",status="499"} 1.0' in (await door.client.get("/metrics")).text


async def test_the_log_of_a_caller_who_left_names_no_fault_of_the_server(
    door: FakeDoor, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    script = door.behind.engine.script
    script.pause_at = 0
    asking = asyncio.create_task(door.client.post(SPEECH, json=body))
    await script.paused.wait()
    asking.cancel()

    def logged() -> list[tuple[str, str]]:
        ended = [
            each.__dict__["fields"]
            for each in caplog.records
            if each.name == "csm.http" and each.msg == "request ended"
        ]
        return [(fields["status"], fields["reason"]) for fields in ended]

    await eventually(lambda: logged() == [("499", "cancelled")])


async def _until_no_stream(door: FakeDoor) -> None:
    await eventually(lambda: not door.stage.door.streams.count)


def read_whole(url: str, body: dict[str, Any], after_first: Callable[[], object] = lambda: None) -> bytes:
    """Requests with the standard library's client."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("POST", SPEECH, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    try:
        first = answer.read(1)  # one byte only, so that some are left
        after_first()
        return first + answer.read()
    finally:
        answer.close()
        connection.close()


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_broken_stream_is_an_incomplete_read(door: FakeDoor, body: dict[str, Any], stream_format: str) -> None:
    script = door.behind.engine.script
    script.pause_at = script.fail_at = 5
    loop = asyncio.get_running_loop()

    def go_on() -> None:
        loop.call_soon_threadsafe(script.resume.set)

    with pytest.raises(http.client.IncompleteRead) as caught:
        await asyncio.to_thread(read_whole, door.url, body | {"stream_format": stream_format}, go_on)
    assert caught.value.partial
    if stream_format == "sse":
        last = json.loads(caught.value.partial.decode().strip().splitlines()[-1].removeprefix("data: "))
        assert last["type"] == "error" and last["error"]["type"] == "server_error"
        assert last["error"]["code"] == "internal"  # what the gateway said, and not that the audio is incomplete
        assert b"speech.audio.done" not in caught.value.partial
    await _until_no_stream(door)
    metrics = (await door.client.get("/metrics")).text
    assert 'http_requests_total{method="POST",route="/v1/audio/speech",status="broken"} 1.0' in metrics


async def test_client_that_does_not_read_the_error_of_a_broken_stream_is_no_failure_of_the_door() -> None:
    async with fake_door(write_timeout_seconds=0.01) as door:
        response = AudioResponse(door.stage.door, lambda: None, SpeechRequest(input="Hello.", stream_format="sse"))  # type: ignore[arg-type, return-value]

        async def unread(message: Any) -> None:
            await asyncio.Event().wait()

        scope: dict[str, Any] = {}
        await response._break(IncompleteAudioError("The audio is incomplete.", 3), scope, unread)
        assert scope[BROKEN] == "incomplete_audio"


def answers(port: int, *requests: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """For each request over one connection: (headers, body still chunked, bytes after the last chunk)"""
    found = []
    with socket.create_connection(("127.0.0.1", port), 20) as connection, connection.makefile("rb") as reader:
        for request in requests:
            connection.sendall(request)
            head, chunks = b"".join(iter(reader.readline, b"\r\n")).lower(), b""
            while (size := int(reader.readline(), 16)) > 0:
                chunks += reader.read(size + 2)[:size]
            trailers = b"".join(iter(reader.readline, b"\r\n"))
            found.append((head, chunks, trailers))
    return found


def request_of(body: dict[str, Any], headers: str = "") -> bytes:
    content = json.dumps(body)
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode()


async def test_a_client_that_accepts_trailers_gets_the_error_in_a_trailer(
    door: FakeDoor, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And for no other caller. The log has it for all."""
    caplog.set_level("INFO", "csm.http")
    cut = body | {"max_audio_seconds": 0.24}
    asked = "TE: gzip, Trailers\r\nConnection: TE\r\n"
    requests = (
        request_of(cut, asked),
        request_of(cut),
        request_of(body, "TE: gzip\r\nTE: trailers\r\nConnection: TE\r\n"),
    )
    told, plain, whole = await asyncio.to_thread(answers, door.stage.server.port, *requests)
    assert b"\r\ntrailer: x-finish-reason\r\n" in told[0] and b"trailer:" not in plain[0]
    assert (told[2], plain[2]) == (b"x-finish-reason: max_audio_seconds\r\n", b"")
    assert whole[2] == b"x-finish-reason: end_of_speech\r\n"
    assert told[1] == plain[1] == whole[1][: len(told[1])] and len(told[1]) == 3 * 3840

    def logged() -> list[str]:
        """Of requests for speech: clients of other tests may still know the port."""
        ended = [each.__dict__["fields"] for each in caplog.records if each.msg == "request ended"]
        return [fields["finish_reason"] for fields in ended if fields["route"] == SPEECH]

    await eventually(lambda: logged() == ["max_audio_seconds", "max_audio_seconds", "end_of_speech"])


async def test_http_1_0_has_no_trailers(door: FakeDoor, body: dict[str, Any]) -> None:
    asked = request_of(body, "TE: trailers\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(asked)
    content = await reader.read()
    writer.close()
    assert b"railer" not in content and content.endswith(numbered_audio(range(10)))


async def test_connection_lives_on_after_a_whole_stream(door: FakeDoor, body: dict[str, Any]) -> None:
    def twice() -> list[int]:
        connection = http.client.HTTPConnection(door.url.removeprefix("http://"), timeout=20)
        sizes = []
        for _ in range(2):
            connection.request("POST", SPEECH, json.dumps(body), {"content-type": "application/json"})
            sizes.append(len(connection.getresponse().read()))
        connection.close()
        return sizes

    assert await asyncio.to_thread(twice) == [38_400, 38_400]


async def test_drain_lets_a_stream_end_and_takes_no_more(body: dict[str, Any]) -> None:
    async with fake_door(drain_seconds=20.0) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        asking = asyncio.create_task(door.client.post(SPEECH, json=body))
        await script.paused.wait()
        stopping = asyncio.create_task(door.stage.stop())
        await door.stage.door.streams.draining.wait()
        refused, ready = await door.client.post(SPEECH, json=body), await door.client.get("/readyz")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert refused.headers["connection"] == "close"  # so that the client retries at another door
        assert ready.status_code == 503 and (await door.client.get("/healthz")).status_code == 200
        script.resume.set()
        assert len((await asking).content) == 38_400
        await stopping


async def test_a_drain_ends_streams_that_take_too_long(
    body: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LAST_SECONDS", 1)
    async with fake_door(drain_seconds=0.2) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        loop, heard = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(heard.set)

        asking = asyncio.create_task(asyncio.to_thread(read_whole, door.url, body, tell))
        reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
        writer.write(b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        await heard.wait()
        await door.stage.stop()
        with pytest.raises(http.client.IncompleteRead):
            await asking
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        writer.close()
        count = door.stage.door.metrics.registry.get_sample_value
        labels = {"method": "POST", "route": "/v1/audio/speech"}
        assert [count("http_requests_total", labels | {"status": status}) for status in ("broken", "503")] == [1, 1]
    assert not [record for record in caplog.records if record.exc_info]


async def test_text_that_is_no_utf_8_closes_the_websocket_without_a_logged_error(
    door: FakeDoor, caplog: pytest.LogCaptureFixture
) -> None:
    async with talking(door, {}) as talk:
        await talk._connection.send(b'{"text": "\xff"}', text=True)
        assert await talk.closed() == 1007
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
