"""Limits: of bodies, of time, of streams at once; and who is let in."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.services.gateway.voices.callers import wav
from tests.services.http.test_websocket import talking
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.waits import eventually

SPEECH = "/v1/audio/speech"
READERS = ("*/starlette/requests.py", "*/json/*", "*/base64.py")  # what they have made of a body


async def raw(door: FakeDoor, request: bytes) -> bytes:
    """The answer to bytes, or to none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_body_is_refused(body: dict[str, Any], chunked: bool) -> None:
    async with fake_door(max_body_bytes=2000) as door:
        content = json.dumps(body | {"input": "x" * 4000}).encode()

        async def pieces() -> Any:
            yield content

        answer = await door.client.post(
            SPEECH, content=pieces() if chunked else content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"
        largest = json.dumps(body).encode().ljust(2000)
        answer = await door.client.post(SPEECH, content=largest, headers={"content-type": "application/json"})
        assert answer.status_code == 200


async def test_json_of_many_values_is_refused_unread(door: FakeDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", None)  # FastAPI's reader of bodies; a million values would block it for minutes
    content = b'{"input": "Hi.", "context": [' + b"{}," * 10**6 + b"{}]}"
    answer = await door.client.post(SPEECH, content=content, headers={"content-type": "application/json"})
    monkeypatch.undo()
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


async def test_a_body_is_released_while_its_speech_is_synthesized(door: FakeDoor, body: dict[str, Any]) -> None:
    """Neither its bytes, nor its JSON, nor its recordings, which are large and in the message to the gateway too."""
    script = door.behind.engine.script
    script.pause_at = 3
    audio = base64.b64encode(wav(20.0, 48_000)).decode()
    readers = [tracemalloc.Filter(True, pattern) for pattern in READERS]
    tracemalloc.start()
    try:
        context = [{"text": "Hello.", "audio": audio}]
        asking = asyncio.create_task(door.client.post(SPEECH, json=body | {"context": context}))
        await asyncio.wait_for(script.paused.wait(), 60)
        traces = tracemalloc.take_snapshot().filter_traces(readers).traces
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in traces) < len(audio) / 2
    script.resume.set()
    assert (await asking).status_code == 200


async def test_a_body_in_another_encoding_is_refused_by_name(door: FakeDoor, body: dict[str, Any]) -> None:
    headers = {"content-type": "application/json"}
    content = gzip.compress(json.dumps(body).encode())
    answer = await door.client.post(SPEECH, content=content, headers=headers | {"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "encoding_not_supported")
    answer = await door.client.post(SPEECH, content='{"input": "\u00e9"}'.encode("latin-1"), headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith("The body is no JSON in UTF-8")


async def test_bodies_together_are_limited(body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    async with fake_door(max_bodies_bytes=1024 + len(content) // 2) as door:
        head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port)
        writer.write(head + b"Content-Length: 1030\r\n\r\n" + b" " * 1026)
        async with asyncio.timeout(60):
            while (refused := await door.client.post(SPEECH, json=body)).status_code != 503:
                await asyncio.sleep(0.01)
        assert refused.json()["error"]["code"] == "too_many_bodies" and refused.headers["retry-after"] == "1"
        writer.write(b"{}  ")
        assert b" 400 " in await reader.readline()
        assert (await door.client.post(SPEECH, json=body)).status_code == 200
        writer.close()


@pytest.mark.parametrize("request_start", [b"", b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"])
async def test_late_headers_close_the_connection(request_start: bytes) -> None:
    async with fake_door(header_timeout_seconds=0.2) as door:
        assert await raw(door, request_start) == b""


async def test_late_body_is_refused() -> None:
    async with fake_door(body_timeout_seconds=0.2) as door:
        start = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = await raw(door, start + b"Content-Length: 10\r\nConnection: close\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ") and b"body_too_slow" in answer


async def test_one_stream_too_many_is_refused(body: dict[str, Any]) -> None:
    async with fake_door(max_streams=1) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        asking = asyncio.create_task(door.client.post(SPEECH, json=body))
        await script.paused.wait()
        refused = await door.client.post(SPEECH, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_streams")
        assert refused.headers["retry-after"] == "1" and 1000 <= int(refused.headers["retry-after-ms"]) <= 1500
        script.resume.set()
        assert (await asking).status_code == 200
        assert (await door.client.post(SPEECH, json=body)).status_code == 200


async def test_client_that_does_not_read_ends_its_stream(body: dict[str, Any]) -> None:
    async with fake_door({"write_timeout_seconds": 60.0}, write_timeout_seconds=0.3) as door:
        door.behind.engine.frame_count = 1000
        content = json.dumps(body | {"sample_rate": 48_000}).encode()
        start = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.stage.server.port, limit=1024)
        writer.write(start + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        async with asyncio.timeout(30):
            await eventually(lambda: door.behind.engine.calls)
            await door.behind.engine.calls[0].ended.wait()
            await eventually(lambda: not door.stage.door.streams.count)
        writer.close()
        assert 'status="broken"' in (await door.client.get("/metrics")).text


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([{"name": "ann", "sha256": hashlib.sha256(b"sesame").hexdigest()}]))
    return path


async def test_token_is_passed_on(tokens: Path, body: dict[str, Any]) -> None:
    async with fake_door({"auth_tokens_file": tokens}) as door:
        for header, status in (
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Basic sesame"}, 401),
            ({"authorization": "Bearer two words"}, 401),
            ({"authorization": "Bearer " + "x" * 60_000}, 401),
            ({"authorization": "Bearer sesame"}, 200),
        ):
            answer = await door.client.post(SPEECH, json=body, headers=header)
            assert answer.status_code == status, header
            if status == 401:
                assert answer.json()["error"]["type"] == "authentication_error"
                assert "wrong" not in answer.text
            assert (await door.client.get("/v1/audio/voices", headers=header)).status_code == status
            assert (await door.client.get("/readyz", headers=header)).status_code == 200


async def test_pages_of_named_origins_alone_may_read_answers() -> None:
    page = {"origin": "https://good.example"}
    preflight = page | {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with fake_door() as door:
        assert "access-control-allow-origin" not in (await door.client.get("/v1/models", headers=page)).headers
    async with fake_door(cors_origins="https://good.example", max_body_bytes=2000) as door:
        answer = await door.client.get("/v1/models", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://good.example"
        assert (await door.client.options(SPEECH, headers=preflight)).status_code == 200
        large = await door.client.post(SPEECH, content=b"x" * 3000, headers=page)
        assert large.status_code == 413 and "access-control-allow-origin" in large.headers
        bad = await door.client.get("/v1/models", headers={"origin": "https://bad.example"})
        assert bad.headers.get("access-control-allow-origin") != "https://bad.example"


async def test_wrong_timeout_header_is_named(door: FakeDoor, body: dict[str, Any]) -> None:
    answer = await door.client.post(SPEECH, json=body, headers={"x-timeout-seconds": "soon"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-timeout-seconds")


async def test_small_pieces_are_sent_without_delay(door: FakeDoor) -> None:
    async with door.client.stream("GET", "/healthz"):
        (connection,) = door.stage.server.connections()
        accepted = connection.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_taken_port_is_an_error(door: FakeDoor) -> None:
    with pytest.raises(OSError, match="Cannot listen"):
        async with fake_door(port=door.stage.server.port):
            pass


async def test_quota_of_a_caller_is_429_with_retry_after(tokens: Path, body: dict[str, Any]) -> None:
    async with fake_door({"auth_tokens_file": tokens, "max_streams_per_caller": 1}) as door:
        door.client.headers["authorization"] = "Bearer sesame"
        script = door.behind.engine.script
        script.pause_at = 3
        asking = asyncio.create_task(door.client.post(SPEECH, json=body))
        await script.paused.wait()
        refused = await door.client.post(SPEECH, json=body)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert refused.json()["error"]["code"] == "quota_exceeded" and int(refused.headers["retry-after"]) >= 1
        search = await door.client.post("/v1/audio/watermark", content=wav())
        assert (search.status_code, search.json()["error"]["code"]) == (429, "quota_exceeded")
        async with talking(door, {"token": "sesame"}) as talk:
            await talk.say(type="input.text", text="Hello.", flush=True)
            error = await talk.next()
            assert (error["type"], error["error"]["code"]) == ("error", "quota_exceeded")
            assert await talk.closed() == 1013
        script.resume.set()
        assert (await asking).status_code == 200


async def test_contexts_that_websockets_keep_count_as_bodies() -> None:
    """Former ones until no utterance has them, the present one until the session ends."""
    context = {"context": [{"text": "x" * 1000}]}
    async with fake_door(max_bodies_bytes=2500) as door:
        async with talking(door, context) as first:
            async with talking(door, context), talking(door) as third:
                await third.say(type="session.config", **context)
                error = await third.next()
                assert error["error"]["code"] == "too_many_bodies" and await third.closed() == 1013
            for _ in range(3):
                await first.say(type="session.config", **context)
            await first.say(type="input.text", text="Hello.")
            await first.say(type="input.done")
            await first.until("audio.done")
            assert door.stage.door.bodies.held == 1000
        await eventually(lambda: not door.stage.door.bodies.held)


async def test_a_body_larger_than_the_budget_of_all_is_never_asked_for_again(body: dict[str, Any]) -> None:
    """A 503 would tell its caller to call again, without end."""
    async with fake_door(max_bodies_bytes=1024) as door:
        answer = await door.client.post(SPEECH, json={**body, "input": "x" * 8000})
        assert (answer.status_code, "1024" in answer.json()["error"]["message"]) == (413, True)
