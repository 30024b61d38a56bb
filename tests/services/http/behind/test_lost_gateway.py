"""A gateway that is killed behind the door: speech over HTTP goes on at another one, and no byte differs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import csm_client
import httpx
import pytest
from starlette.datastructures import Headers

from services.http.settings import HttpSettings
from services.http.stage import HttpStage, start_http
from tests.clients.python.lost_gateway import test_lost_gateway_texts as texts
from tests.clients.python.lost_gateway.test_lost_gateway import (
    FRAMES,
    HELD_AT,
    Gateways,
    kill_one,
    running_gateways,
    warm_up,
)
from tests.clients.python.lost_gateway.test_lost_gateway_utterances import made_by
from tests.services.http.test_websocket import talk_at

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def door_of(gateways: Gateways) -> AsyncIterator[HttpStage]:
    """A door that is connected to two gateways, and uses them in turn."""
    settings: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "metrics_port": -1, "drain_seconds": 0.0}
    stage = await start_http(HttpSettings(gateway_target=gateways.target, **settings))
    try:
        client = stage.door.upstream.client(stage.door.upstream.caller(Headers()))
        await warm_up(gateways.deployment, lambda: client.synthesize("Hello.", max_seconds=0.08))
        yield stage
    finally:
        await stage.stop()


@pytest.mark.parametrize(
    "response_format", ["mp3", pytest.param("wav", marks=pytest.mark.slow), pytest.param("pcm", marks=pytest.mark.slow)]
)
async def test_speech_resumes_at_another_gateway(tmp_path: Path, response_format: str) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "seed": 7, "response_format": response_format}
    async with running_gateways(tmp_path, seals=True) as gateways, door_of(gateways) as door:
        async with httpx.AsyncClient(base_url=door.url, timeout=100, trust_env=False, verify=False) as client:

            async def speech(heard: bytearray) -> bytearray:
                async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
                    assert answer.status_code == 200
                    async for piece in answer.aiter_raw():
                        heard += piece
                return heard

            undisturbed, one, other = await speech(bytearray()), bytearray(), bytearray()
            fifth = len(undisturbed) // 5  # the door has a checkpoint before
            gateways.deployment.codec.calls.clear()
            gateways.deployment.engine.calls.clear()
            gateways.deployment.codec.script.pause_at = HELD_AT
            killing = asyncio.create_task(kill_one(gateways, lambda: min(len(one), len(other)) > fifth))
            await asyncio.gather(speech(one), speech(other))
            await killing
    assert one == other == undisturbed
    assert len(gateways.deployment.codec.calls) == 3
    assert sum(map(made_by, gateways.deployment.engine.calls)) < 3 * FRAMES  # the lost one is not made again


async def test_a_text_of_a_websocket_resumes_at_another_gateway(tmp_path: Path) -> None:
    async with running_gateways(tmp_path) as gateways, door_of(gateways) as door:
        config = {"voice": "alloy", "seed": 7, "response_format": "mp3"}
        async with talk_at(door.url, config) as one, talk_at(door.url, config) as other:
            gateways.deployment.codec.script.pause_at = HELD_AT
            killing = asyncio.create_task(kill_one(gateways))
            for talk in (one, other):
                await talk.say(type="input.text", text="One is here. Two")
            await killing
            events = []
            for talk in (one, other):
                await talk.say(type="input.text", text=" is here.")
                await talk.say(type="input.done")
                events.append(await talk.until("session.done"))
        async with csm_client.AsyncClient(gateways.target) as client:
            pieces = ["One is here. Two", " is here."]
            undisturbed = await client.stream_synthesize_text(pieces, seed=7, encoding="mp3").read_all()
    for talk, told in zip((one, other), events, strict=True):
        assert hashlib.sha256(talk.audio).digest() == hashlib.sha256(undisturbed.samples).digest()
        kinds = [message["type"] for message in told]
        assert kinds == ["audio.start", "audio.done", "audio.start", "audio.done", "session.done"]
    assert len(gateways.deployment.codec.calls) == 7


async def test_a_text_of_a_websocket_resumes_inside_the_lost_sentence(tmp_path: Path) -> None:
    """Frames of a checkpoint that the door has received are not made again."""
    async with running_gateways(tmp_path, seals=True) as gateways, door_of(gateways) as door:
        engine = gateways.deployment.engine
        engine.calls.clear()
        gateways.deployment.codec.calls.clear()
        engine.frame_count = texts.FRAMES
        async with talk_at(door.url, {"voice": "alloy", "seed": 7, "response_format": "pcm"}) as talk:
            await talk.say(type="input.text", text="".join(texts.PIECES))
            await talk.say(type="input.done")
            hearing = asyncio.create_task(talk.until("session.done"))
            await texts.lose_late(gateways, 1, lambda: len(talk.audio) // 2)
            await hearing
        texts.check_resumes_inside(gateways, 1)
    assert talk.audio == texts.AUDIO
