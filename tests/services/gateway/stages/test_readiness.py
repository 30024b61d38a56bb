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

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse(status=status)
    for status in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
)


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
        if isinstance(answer := self._answers.pop(0), grpc.aio.AioRpcError):
            raise answer
        return answer

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("end", [grpc.aio.EOF, None], ids=["its end", "no message"])  # type: ignore[attr-defined]
async def test_stage_whose_health_ends_without_an_error_does_not_count_as_serving(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 0.04)
    monkeypatch.setattr(readiness, "RETRY_AFTER_S", 0.01)
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


UNREACHABLE = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


@pytest.mark.parametrize("end", [NOT_SERVING, UNREACHABLE], ids=["it drains", "it is lost"])
async def test_stage_counts_as_serving_while_another_replica_is_found(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 60.0)
    monkeypatch.setattr(readiness, "RETRY_AFTER_S", 0.0)
    reports: list[bool] = []
    calls = Calls([SERVING, end], [NOT_SERVING], [UNREACHABLE], [SERVING])
    watch = StageWatch("engine", channel_to(calls), lambda: reports.append(watch.serving))
    following = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: len(reports) == 2)
    finally:
        following.cancel()
    assert reports == [True, True] and calls.num_made == 4


async def test_stage_stops_serving_when_no_replica_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 0.04)
    monkeypatch.setattr(readiness, "RETRY_AFTER_S", 0.01)
    reports: list[bool] = []
    watch = StageWatch(
        "engine",
        channel_to(Calls([SERVING, NOT_SERVING], *[[NOT_SERVING, UNREACHABLE]] * 1000)),
        lambda: reports.append(watch.serving),
    )
    following = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: reports == [True, False])
    finally:
        following.cancel()


async def test_a_replica_that_does_not_serve_yet_is_followed_until_it_does() -> None:
    calls = Calls([NOT_SERVING, SERVING])
    watch = StageWatch("engine", channel_to(calls), lambda: None)
    following = asyncio.create_task(watch.run())
    try:
        await eventually(lambda: watch.serving)
    finally:
        following.cancel()
    assert calls.num_made == 1


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
