"""Whether the gateway sees a stage as ready, by its health service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.background import Background
from services.common.rpc.health import HealthServicer
from services.common.rpc.server import READINESS
from services.gateway.stages import readiness
from services.gateway.stages.readiness import StageWatch, health_channel
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


UNREACHABLE = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone", "")


@asynccontextmanager
async def reports_of(calls: Calls) -> AsyncIterator[list[bool]]:
    """What the watch of a stage reports, in order."""
    reports: list[bool] = []
    watch = StageWatch("engine", channel_to(calls), lambda: reports.append(watch.serving))
    following = asyncio.create_task(watch.run())
    try:
        yield reports
    finally:
        following.cancel()


@pytest.fixture
def soon_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica is looked for briefly."""
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 0.04)
    monkeypatch.setattr(readiness, "RETRY_AFTER_S", 0.01)


@pytest.mark.usefixtures("soon_lost")
@pytest.mark.parametrize("end", [grpc.aio.EOF, None], ids=["its end", "no message"])  # type: ignore[attr-defined]
async def test_stage_whose_health_ends_without_an_error_does_not_count_as_serving(end: object) -> None:
    calls = Calls([SERVING, end], [], [SERVING])
    async with reports_of(calls) as reports:
        await eventually(lambda: reports == [True, False, True])
    assert calls.num_made == 3


@pytest.mark.parametrize("end", [NOT_SERVING, UNREACHABLE], ids=["it drains", "it is lost"])
async def test_stage_counts_as_serving_while_another_replica_is_found(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 60.0)
    monkeypatch.setattr(readiness, "RETRY_AFTER_S", 0.0)
    calls = Calls([SERVING, end], [NOT_SERVING], [UNREACHABLE], [SERVING])
    async with reports_of(calls) as reports:
        await eventually(lambda: len(reports) == 2)
    assert reports == [True, True] and calls.num_made == 4


@pytest.mark.usefixtures("soon_lost")
async def test_stage_stops_serving_when_no_replica_is_found() -> None:
    async with reports_of(Calls([SERVING, NOT_SERVING], *[[NOT_SERVING, UNREACHABLE]] * 1000)) as reports:
        await eventually(lambda: reports == [True, False])


async def test_a_replica_that_does_not_serve_yet_is_followed_until_it_does() -> None:
    calls = Calls([NOT_SERVING, SERVING])
    async with reports_of(calls) as reports:
        await eventually(lambda: reports == [True])
    assert calls.num_made == 1


@pytest.mark.usefixtures("soon_lost")
async def test_a_change_that_could_not_be_reported_is_reported_again() -> None:
    told: list[bool] = []
    fails_once = [True, False]

    def on_change() -> None:
        if watch.serving in fails_once:
            fails_once.remove(watch.serving)
            raise ValueError("once")
        told.append(watch.serving)

    calls = Calls([SERVING], [SERVING, NOT_SERVING], *[[UNREACHABLE]] * 1000)
    watch = StageWatch("engine", channel_to(calls), on_change)
    following = Background().start("watch", watch.run)
    try:
        await eventually(lambda: told == [True, False])
    finally:
        following.cancel()


class Replica(HealthServicer):
    """The health of a replica."""

    num_calls = 0

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        self.num_calls += 1
        await super().Watch(request, context)


async def test_of_many_replicas_one_that_serves_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One replica after the other would not be found in time: 15 of 16 drain in a rollout whose streams are long."""
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 60.0)
    async with AsyncExitStack() as stack:
        ports, replicas = list[int](), [Replica(), Replica()]
        for replica, status in zip(replicas, (SERVING.status, NOT_SERVING.status), strict=True):
            replica.set(READINESS, status)
            server = grpc.aio.server()
            health_pb2_grpc.add_HealthServicer_to_server(replica, server)
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            stack.push_async_callback(server.stop, 0)
        channel = health_channel("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), 60.0)
        stack.push_async_callback(channel.close)
        watches: list[StageWatch] = []
        while not all(replica.num_calls for replica in replicas) or len(watches) < 4:
            watches.append(StageWatch("engine", channel, lambda: None))
            following = asyncio.create_task(watches[-1].run())
            stack.callback(following.cancel)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            await eventually(lambda: all(watch.serving for watch in watches))


@pytest.mark.usefixtures("soon_lost")
async def test_a_stage_that_never_served_is_named_once_with_its_target(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls(*[[UNREACHABLE]] * 1000)
    async with reports_of(calls) as reports:
        await eventually(lambda: calls.num_made > 20)
    assert reports == []
    (said,) = [record.getMessage() for record in caplog.records if record.name == "csm.gateway"]
    assert said == "no engine serves yet at 127.0.0.1:1 (--engine-health-target)"
