"""Who watches the health of a stage and takes no message costs the others nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from services.common.rpc import health as module
from services.common.rpc.health import HealthService
from services.common.rpc.status import StatusError

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Watcher:
    """The context of a watch. A frozen one takes the first message alone."""

    def __init__(self, *, frozen: bool = False) -> None:
        self.told: list[int] = []
        self._frozen = frozen

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        if self._frozen and self.told:
            await asyncio.Event().wait()
        self.told.append(response.status)


async def test_a_frozen_watcher_holds_up_neither_the_others_nor_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_S", 0.01)
    service = HealthService()
    await service.set("readiness", SERVING)
    frozen, other = Watcher(frozen=True), Watcher()
    watches: list[asyncio.Task[Any]] = []
    for watcher in (frozen, other):
        request = health_pb2.HealthCheckRequest(service="readiness")
        watches.append(asyncio.create_task(service.Watch(request, watcher)))
        while not watcher.told:
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        for status in (NOT_SERVING, SERVING, NOT_SERVING):
            await service.set("readiness", status)
            while other.told[-1] != status:
                await asyncio.sleep(0)
        with pytest.raises(StatusError, match="has taken no message for 0.01 s"):
            await watches[0]
    watches[1].cancel()
    assert frozen.told == [SERVING] and other.told == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]
