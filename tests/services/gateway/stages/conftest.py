"""A gateway in front of several engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.services.gateway.stages.engines import REPLICAS
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FakeCodec, FakeEngine


def _note_asked(monkeypatch: pytest.MonkeyPatch, stage: type, method: str, asked: set[Any]) -> None:
    answer = getattr(stage, method)

    async def noted(self: Any, request: Any, context: Any) -> Any:
        asked.add(self)
        return await answer(self, request, context)

    monkeypatch.setattr(stage, method, noted)


@pytest.fixture
async def deployment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDeployment]:
    """Every replica was asked about itself: until the gateway has connected to one, calls pass it over, and the
    gateway is ready with the first. Parameter, optional: --max-full-replicas."""
    moves = getattr(request, "param", 3)
    asked: set[Any] = set()
    _note_asked(monkeypatch, FakeEngine, "GetModelInfo", asked)
    _note_asked(monkeypatch, FakeCodec, "GetCodecInfo", asked)
    async with fake_deployment(replica_count=REPLICAS, failover_wait_seconds=20.0, max_full_replicas=moves) as running:
        await running.gateway.wait_ready()
        async with asyncio.timeout(60):
            while len(asked) < 2 * REPLICAS:
                running.gateway._catalogs.forget()
                await running.gateway._catalogs.get(20.0)
        yield running
