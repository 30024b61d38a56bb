"""nginx and Caddy, with the files of deploy/, before the HTTP door: audio, WebSockets, cancels, recordings, errors."""

from __future__ import annotations

import asyncio
import re
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csm_client
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from services.http.settings import HttpSettings
from tests.deploy.proxies.processes import DEPLOY, FRONTS, WAIT_S
from tests.services.http.test_websocket import Talk
from tests.support.authority import Authority
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_deployment import ended
from tests.support.fake_stages import numbered_audio
from tests.support.wav import wav_of

SPEECH = "/v1/audio/speech"
BODY = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm"}


@pytest.fixture(params=list(FRONTS))
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@dataclass
class Front:
    """A proxy, and the door behind it."""

    client: httpx.AsyncClient
    door: FakeDoor

    @property
    def stream(self) -> str:
        """The WebSocket's address."""
        return str(self.client.base_url.copy_with(scheme="ws", path="/v1/audio/stream"))

    @property
    def calls(self) -> list[Any]:
        """Of the engine."""
        return self.door.behind.engine.calls


@asynccontextmanager
async def front(proxy: str, folder: Path) -> AsyncIterator[Front]:
    async with (
        fake_door() as door,
        FRONTS[proxy](folder, door=door.stage.server.port) as (http, _),
        httpx.AsyncClient(base_url=f"http://{http}", timeout=WAIT_S, trust_env=False, verify=False) as client,
    ):
        yield Front(client, door)


async def test_audio_comes_before_the_end_and_then_whole(proxy: str, tmp_path: Path) -> None:
    async with front(proxy, tmp_path) as way:
        script = way.door.behind.engine.script
        script.pause_at = 5
        async with way.client.stream("POST", SPEECH, json=BODY) as answer:
            assert answer.status_code == 200 and answer.headers["x-request-id"] and answer.headers["x-seed"]
            pieces = answer.aiter_raw()
            found = await anext(pieces)
            script.resume.set()
            found += b"".join([piece async for piece in pieces])
    assert found == numbered_audio(range(10))


@pytest.mark.parametrize("pause_at", [0, 5])
async def test_a_client_that_leaves_ends_the_call_of_the_engine(proxy: str, tmp_path: Path, pause_at: int) -> None:
    async with front(proxy, tmp_path) as way:
        script = way.door.behind.engine.script
        script.pause_at = pause_at
        asking = asyncio.create_task(way.client.post(SPEECH, json=BODY))
        await asyncio.wait_for(script.paused.wait(), WAIT_S)
        asking.cancel()
        assert await ended(way.calls) == "CancelledError"


async def test_a_broken_stream_is_not_taken_for_a_whole_one_behind_nginx(tmp_path: Path) -> None:
    """Caddy 2.6 ends it as if it were whole; docs/deploy.md says so."""
    async with front("nginx", tmp_path) as way:
        script = way.door.behind.engine.script
        script.pause_at = script.fail_at = 5
        with pytest.raises(httpx.RemoteProtocolError):
            async with way.client.stream("POST", SPEECH, json=BODY) as answer:
                async for _ in answer.aiter_raw():
                    script.resume.set()


async def test_a_broken_stream_of_events_has_its_error(proxy: str, tmp_path: Path) -> None:
    found = b""
    async with front(proxy, tmp_path) as way:
        script = way.door.behind.engine.script
        script.pause_at = script.fail_at = 5
        with suppress(httpx.RemoteProtocolError):
            async with way.client.stream("POST", SPEECH, json=BODY | {"stream_format": "sse"}) as answer:
                async for piece in answer.aiter_raw():
                    found += piece
                    script.resume.set()
    assert b'"type": "error"' in found and b"speech.audio.done" not in found


async def test_errors_pass_whole(proxy: str, tmp_path: Path) -> None:
    async with front(proxy, tmp_path) as way:
        answer = await way.client.post(SPEECH, json=BODY | {"voice": "nobody"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "voice_not_found")
        way.door.stage.door.streams._most = 0
        full = await way.client.post(SPEECH, json=BODY)
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")


async def test_a_websocket_speaks(proxy: str, tmp_path: Path) -> None:
    async with front(proxy, tmp_path) as way, connect(way.stream) as connection:
        talk = Talk(connection)
        await talk.say(type="session.config")
        await talk.say(type="input.text", text="Hello there.")
        await talk.say(type="input.done")
        await talk.until("session.done")
    assert talk.audio == numbered_audio(range(10))


async def test_a_websocket_that_is_cut_ends_the_call_of_the_engine(proxy: str, tmp_path: Path) -> None:
    async with front(proxy, tmp_path) as way:
        way.door.behind.engine.script.pause_at = 3
        async with connect(way.stream) as connection:
            talk = Talk(connection)
            await talk.say(type="session.config")
            await talk.say(type="input.text", text="Hello there.", flush=True)
            await talk.until("audio.start")
            await talk.leave()
        assert await ended(way.calls) == "CancelledError"


async def test_recordings_of_megabytes_pass(proxy: str, tmp_path: Path) -> None:
    recording = wav_of(struct.pack("<2h", 4000, -4000) * 1_000_000)
    async with front(proxy, tmp_path) as way:
        answer = await way.client.post("/v1/audio/watermark", content=recording, headers={"content-type": "audio/wav"})
    assert len(recording) > 2**21 and answer.status_code == 200 and answer.json()["detected"]


async def test_tls_ends_at_the_proxy(proxy: str, tmp_path: Path) -> None:
    """And the door's own page may call, whose origin is that of the proxy."""
    authority = Authority()
    pair = authority.write(tmp_path / "tls")
    ca = authority.write_ca(tmp_path)
    trusted = ssl.create_default_context(cafile=str(ca))
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(fake_door())
        port = door.behind.gateway.server.port
        ways = FRONTS[proxy](tmp_path, door=door.stage.server.port, gateways=(port, port), tls=pair)
        http, grpc = (where.replace("127.0.0.1", "localhost") for where in await stack.enter_async_context(ways))
        url = f"https://{http}"
        async with httpx.AsyncClient(base_url=url, verify=trusted, timeout=WAIT_S, trust_env=False) as client:
            own, other = [
                await client.post(SPEECH, json=BODY, headers={"origin": origin})
                for origin in (url, "https://other.example")
            ]
        assert own.content == numbered_audio(range(10)) and other.status_code == 403
        async with connect(f"wss://{http}/v1/audio/stream", ssl=trusted, origin=Origin(url)) as connection:
            talk = Talk(connection)
            await talk.say(type="session.config")
            assert (await talk.next())["type"] == "session.created"
        async with csm_client.AsyncClient(grpc, tls_ca=ca, timeout_s=WAIT_S) as caller:
            assert (await caller.synthesize("Hello.")).samples == numbered_audio(range(10))


def test_timeouts_of_nginx_are_longer_than_those_of_the_http_server() -> None:
    text = (DEPLOY / "nginx" / "speech.conf").read_text(encoding="utf-8")
    waits_h = [int(hours) for hours in re.findall(r"_(?:read|send)_timeout (\d+)h;", text)]
    assert len(waits_h) == 4
    settings = HttpSettings.model_construct()
    assert min(waits_h) * 3600 > max(settings.deadline_seconds, settings.websocket_idle_seconds)
    (kept_s,) = re.findall(r"keepalive_timeout (\d+)s;", text)
    assert int(kept_s) < settings.keep_alive_seconds
    (most_mb,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(most_mb) * 2**20 >= settings.max_upload_bytes
