"""Calls at once on one connection to the gateway: every request that the door admits reaches it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_stages import numbered_audio
from tests.support.waits import eventually

SPEECH = "/v1/audio/speech"
PER_CONNECTION = 2


async def speaking(door: FakeDoor, body: dict[str, Any], count: int) -> list[asyncio.Task[httpx.Response]]:
    """Makes that many requests, and returns them when all have reached the engine."""
    asked = [asyncio.create_task(door.client.post(SPEECH, json=body)) for _ in range(count)]
    await eventually(lambda: len(door.behind.engine.calls) >= count)
    return asked


async def test_streams_over_one_connection_s_limit_use_another_connection(
    body: dict[str, Any],
) -> None:
    gateway = {"max_streams_per_connection": PER_CONNECTION}
    async with fake_door(gateway, gateway_streams_per_connection=PER_CONNECTION, max_streams=5) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        asked = await speaking(door, body, 5)
        async with asyncio.timeout(20):
            refused = await door.client.post(SPEECH, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_streams")
            assert refused.headers["retry-after"] == "1"
            voices = [door.client.get("/v1/audio/voices") for _ in range(4)]  # no streams, but calls
            assert [answer.status_code for answer in await asyncio.gather(*voices)] == [200] * 4
        pool = door.stage.door.upstream.channels
        assert max(pool.num_calls) == PER_CONNECTION and sum(pool.num_calls) == 5
        script.resume.set()
        for answer in await asyncio.gather(*asked):
            assert (answer.status_code, answer.content) == (200, numbered_audio(range(10)))
        assert sum(pool.num_calls) == 0
        num_channels = len(pool.num_calls)
        assert (await door.client.post(SPEECH, json=body)).status_code == 200
        assert len(pool.num_calls) == num_channels, "connections are used again"


async def test_a_connection_s_only_call_is_not_its_health_watch(body: dict[str, Any]) -> None:
    async with fake_door({"max_streams_per_connection": 1}, gateway_streams_per_connection=1) as door:
        for _ in range(2):
            async with asyncio.timeout(60):
                assert (await door.client.post(SPEECH, json=body)).status_code == 200
        assert len(door.stage.door.upstream.channels.num_calls) == 1


async def test_failed_and_cancelled_calls_release_their_place(body: dict[str, Any]) -> None:
    async with fake_door(gateway_streams_per_connection=1) as door:
        pool = door.stage.door.upstream.channels
        assert (await door.client.post(SPEECH, json=body | {"voice": "nobody"})).status_code == 404
        door.behind.engine.script.pause_at = 3
        (asking,) = await speaking(door, body, 1)
        assert sum(pool.num_calls) == 1
        asking.cancel()
        await eventually(lambda: not sum(pool.num_calls))


async def test_one_connection_is_enough_for_calls_one_after_another(door: FakeDoor, body: dict[str, Any]) -> None:
    for _ in range(3):
        assert (await door.client.post(SPEECH, json=body)).status_code == 200
    assert len(door.stage.door.upstream.channels.num_calls) == 1
