"""A real HTTP door before a real gateway before stand-ins of engine and codec."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.http.settings import HttpSettings
from services.http.stage import HttpStage, start_http
from tests.support.fake_deployment import FakeDeployment, fake_deployment


@dataclass
class FakeDoor:
    """A door that listens on a free port, and what is behind it."""

    stage: HttpStage
    behind: FakeDeployment
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.stage.server.port}"


@asynccontextmanager
async def fake_door(gateway: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[FakeDoor]:
    """gateway: settings of the gateway; settings: of the door"""
    async with fake_deployment(**(gateway or {})) as behind:
        own: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "metrics_port": -1,
            "gateway_target": behind.target,
            "gateway_health_target": f"127.0.0.1:{behind.gateway.server.health_port}",
            "drain_seconds": 0.0,
        }
        stage = await start_http(HttpSettings(**(own | settings)))
        url = f"http://127.0.0.1:{stage.server.port}"
        try:
            await behind.gateway.wait_ready()
            async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
                yield FakeDoor(stage, behind, client)
        finally:
            await stage.stop()
