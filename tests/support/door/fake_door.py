"""A real HTTP door in front of a real gateway, which is in front of a fake engine and codec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.http.settings import HttpSettings
from services.http.stage import HttpStage, start_http
from tests.support.cost.given_settings import given_settings
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import CallRecord


@dataclass
class FakeDoor:
    """A running door, the deployment behind it, and an HTTP client of the door."""

    stage: HttpStage
    behind: FakeDeployment
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.stage.server.port}"

    @property
    def begun(self) -> int:
        """The number of answers of which the status was sent, because there was first audio."""
        return int(self.stage.door.metrics.registry.get_sample_value("http_first_audio_seconds_count") or 0)


@asynccontextmanager
async def fake_door(gateway: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[FakeDoor]:
    """gateway: settings of the gateway. settings: of the door."""
    async with fake_deployment(**(gateway or {})) as behind:
        own: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "metrics_port": -1,
            "gateway_target": behind.target,
            "gateway_health_target": f"127.0.0.1:{behind.gateway.server.health_port}",
            "drain_seconds": 0.0,
        }
        stage = await start_http(given_settings(HttpSettings, **(own | settings)))
        try:
            await behind.gateway.wait_ready()
            # There is no TLS here, and reading the system's certificates takes longer than most tests do.
            async with httpx.AsyncClient(timeout=30, trust_env=False, verify=False) as client:
                door = FakeDoor(stage, behind, client)
                client.base_url = httpx.URL(door.url)
                yield door
        finally:
            await stage.stop()


async def left_in_search(door: FakeDoor, path: str, **sent: Any) -> CallRecord:
    """Closes a request's connection while the codec searches for the watermark. Returns the search, which has ended."""
    codec = door.behind.codec
    codec.search_script.pause_at = 0
    asking = asyncio.create_task(door.client.post(path, **sent))
    await asyncio.wait_for(codec.search_script.paused.wait(), 60)
    asking.cancel()
    await asyncio.wait_for(codec.searches[0].ended.wait(), 60)
    return codec.searches[0]
