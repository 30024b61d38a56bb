"""Whether the gateway sees a stage as ready, by its health service."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from services.common.background import Background
from services.gateway.stages import readiness
from services.gateway.stages.readiness import StageWatch
from services.gateway.stages.reloading_channel import ReloadingChannel
from tests.support.waits import eventually

SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


class Calls:
    """A Health.Watch service. Each call has its own answers, and then stays silent."""

    def __init__(self, *answers: list[Any]) -> None:
        self.num_made = 0
        self._answers = list(answers)

    def Watch(self, request: Any, wait_for_ready: bool) -> Any:
        self.num_made += 1
        return _Call(self._answers.pop(0) if self._answers else [])


def channel_to(calls: Calls) -> Any:
    return ReloadingChannel("127.0.0.1:1", lambda channel: calls, None)


class _Call:
    def __init__(self, answers: list[Any]) -> None:
        self._answers = list(answers)

    async def read(self) -> Any:
        if not self._answers:
            await asyncio.Event().wait()
        return self._answers.pop(0)

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("end", [grpc.aio.EOF, None], ids=["its end", "no message"])  # type: ignore[attr-defined]
async def test_stage_whose_health_ends_without_an_error_does_not_count_as_serving(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 0.04)
    changes: list[bool] = []

    def on_change() -> None:
        changes.append(watch.serving)

    calls = Calls([SERVING, end], [], [SERVING])
    watch = StageWatch("engine", channel_to(calls), on_change)
    following = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: changes == [True, False, True])
    finally:
        following.cancel()
    assert calls.num_made == 3


async def test_a_change_that_could_not_be_reported_is_reported_again() -> None:
    told: list[bool] = []
    ends = [ValueError("once")]

    def on_change() -> None:
        if ends:
            raise ends.pop()
        told.append(watch.serving)

    calls = Calls([SERVING], [SERVING])
    watch = StageWatch("engine", channel_to(calls), on_change)
    following = Background().start("watch", watch.run)
    try:
        await eventually(lambda: told == [True])
    finally:
        following.cancel()
