"""The HTTP door of the all-in-one server, in front of the real engine and codec."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from csm_client import AsyncClient, ServerError

from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import start_all_in_one
from services.all_in_one.usage import usage
from tests.services.all_in_one.conftest import small_settings
from tests.services.http.test_websocket import talk_at
from tests.support.authority import Authority

BODY = {"input": "Hello.", "voice": "alloy", "response_format": "wav", "max_audio_seconds": 0.4, "seed": 7}


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_http_server_speaks_and_finds_its_watermark(
    bundle: Path, keyring: Path, tmp_path: Path, is_tls: bool
) -> None:
    authority = Authority()
    files: dict[str, Any] = authority.write(tmp_path) if is_tls else {}
    stage = await start_all_in_one(small_settings(bundle, keyring, http_port=0, **files), lambda line: None)
    try:
        assert stage.http is not None and stage.http.url.startswith("https://" if is_tls else "http://")
        context = ssl.create_default_context(cafile=str(authority.write_ca(tmp_path)))
        async with httpx.AsyncClient(base_url=stage.http.url, verify=context, trust_env=False, timeout=100) as client:
            answer = await client.post("/v1/audio/speech", json=BODY)
            assert answer.status_code == 200 and len(answer.content) == 44 + 5 * 2 * 1920
            detected = await client.post("/v1/audio/watermark", content=answer.content)
            assert detected.status_code == 200 and detected.json()["object"] == "audio.watermark"
            assert (await client.get("/readyz")).status_code == 200
    finally:
        await stage.stop()


async def test_while_the_door_drains_it_alone_may_call_the_gateway(bundle: Path, keyring: Path) -> None:
    settings = small_settings(bundle, keyring, http_port=0, drain_seconds=60)
    stage = await start_all_in_one(settings, lambda line: None)
    assert stage.http is not None and stage.server.is_ready
    target, said = f"127.0.0.1:{stage.server.port}", {"type": "input.text", "text": "Hello."}
    async with talk_at(stage.http.url, {"max_audio_seconds": 0.4}) as talk, AsyncClient(target) as client:
        await talk.say(**said, flush=True)
        await talk.until("audio.start")
        stopping = asyncio.create_task(stage.stop())
        await stage.http.door.streams.draining.wait()
        assert not stage.server.is_ready
        with pytest.raises(ServerError) as caught:
            await client.server_info()
        assert caught.value.reason == "DRAINING"
        for message in ({"type": "input.done"}, said, {"type": "input.done"}):
            await talk.say(**message)
        for _ in range(2):  # also what the client has begun since
            assert (await talk.until("session.done"))[-1]["total_sentences"] == 1
        assert await talk.closed() == 1012
        await stopping


async def test_one_sentence_is_the_utterance_that_grpc_gives(bundle: Path, keyring: Path) -> None:
    """Bit for bit and in every way, although the door speaks every text sentence by sentence."""
    stage = await start_all_in_one(small_settings(bundle, keyring, http_port=0), lambda line: None)
    body = BODY | {"response_format": "pcm", "speed": 1.5}
    try:
        assert stage.http is not None
        async with httpx.AsyncClient(base_url=stage.http.url, trust_env=False, verify=False, timeout=100) as client:
            audio = await client.post("/v1/audio/speech", json=body)
            events = await client.post("/v1/audio/speech", json=body | {"stream_format": "sse"})
        config = {name: value for name, value in body.items() if name != "input"}
        async with talk_at(stage.http.url, config) as talk:
            await talk.say(type="input.text", text=body["input"])
            await talk.say(type="input.done")
            await talk.until("session.done")
        async with AsyncClient(f"127.0.0.1:{stage.server.port}") as client:
            stream = client.stream_synthesize("Hello.", seed=7, max_seconds=0.4, speed=1.5)
            samples = (await stream.read_all()).samples
    finally:
        await stage.stop()
    deltas = [json.loads(line.removeprefix("data: ")) for line in events.text.splitlines() if line]
    assert audio.content == talk.audio == samples != b""
    assert b"".join(base64.b64decode(delta.get("audio", "")) for delta in deltas) == samples


def test_door_has_the_certificate_the_tokens_address_and_no_port_of_metrics() -> None:
    settings = AllInOneSettings(bundle="unused", tls_certificate=Path("tls.crt"), tls_key=Path("tls.key"))
    door = settings.http(gateway_target="unix:/x")
    assert (door.host, door.port, door.metrics_port) == ("127.0.0.1", 8000, -1)
    assert door.tls_certificate == Path("tls.crt") and door.gateway_target == "unix:/x"


def test_usage_names_the_http_server_if_it_runs() -> None:
    assert "curl http://127.0.0.1:8000/v1/audio/speech" in usage("127.0.0.1", 1, 2, "http://127.0.0.1:8000")
    assert "curl http" not in usage("127.0.0.1", 1, 2)
