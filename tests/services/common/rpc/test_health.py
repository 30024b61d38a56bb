"""Every watcher of a stage's health gets each change, whatever other watchers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from services.common.rpc.health import MOST_WATCHES, RECEIVE_S
from services.common.rpc.server import StageServer
from services.common.settings import StageSettings
from tests.support.clock import Clock
from tests.support.waits import eventually, settle

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Watcher:
    """A Watch call for readiness, whose caller reads answers when the test lets it."""

    def __init__(self) -> None:
        self.may, self.taken = asyncio.Event(), list[int]()

    def peer(self) -> str:
        return "unix:"  # of every caller over such a socket

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        await self.may.wait()
        self.taken.append(answer.status)


Watch = Callable[[], Watcher]


async def status(server: StageServer, service: str) -> int:
    answer = await server._health.Check(health_pb2.HealthCheckRequest(service=service), None)
    return int(answer.status)


@pytest.fixture
async def server() -> StageServer:
    return StageServer(StageSettings(host="127.0.0.1"), [])


@pytest.fixture
async def watch(server: StageServer) -> AsyncIterator[Watch]:
    calls: list[asyncio.Task[None]] = []

    def watch() -> Watcher:
        watcher, request = Watcher(), health_pb2.HealthCheckRequest(service="readiness")
        calls.append(asyncio.create_task(server._health.Watch(request, watcher)))
        return watcher

    yield watch
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_watcher_that_reads_nothing_delays_neither_the_stage_nor_others(
    server: StageServer, watch: Watch
) -> None:
    watch()
    await settle()
    other = watch()
    other.may.set()
    server.set_serving()
    await settle()
    assert other.taken[-1] == SERVING


async def test_a_slow_watcher_gets_the_current_status(server: StageServer, watch: Watch) -> None:
    late = watch()
    await settle()
    server.set_serving()
    server.set_serving(False)
    server.set_serving()
    late.may.set()
    await settle()
    assert late.taken[-1] == SERVING and len(late.taken) == 2


async def test_watchers_over_a_local_socket_are_not_limited(server: StageServer, watch: Watch) -> None:
    """They all have one address, and are of this machine."""
    server.set_serving()
    watchers = [watch() for _ in range(MOST_WATCHES + 1)]
    for watcher in watchers:
        watcher.may.set()
    await settle()
    assert [watcher.taken for watcher in watchers] == [[SERVING]] * len(watchers)


async def test_a_stage_that_becomes_ready_while_its_drain_begins_is_not_ready(
    server: StageServer, watch: Watch
) -> None:
    slow = watch()
    await settle()
    draining = asyncio.create_task(server.drain())
    await settle()
    server.set_serving()
    slow.may.set()
    await draining
    assert await status(server, "readiness") == await status(server, "") == NOT_SERVING


async def test_a_stage_that_recovers_from_a_stall_in_its_drain_is_not_ready(server: StageServer) -> None:
    server.set_serving()
    server.set_stalled("engine", True)
    await server.drain()
    server.set_stalled("engine", False)
    assert await status(server, "readiness") == await status(server, "") == NOT_SERVING
    assert await status(server, "liveness") == SERVING


async def test_a_stage_is_live_again_when_all_its_threads_run(server: StageServer) -> None:
    server.set_serving()
    server.set_stalled("codec", True)
    server.set_stalled("recordings", True)
    server.set_stalled("codec", False)
    assert await status(server, "readiness") == await status(server, "liveness") == NOT_SERVING
    server.set_stalled("recordings", False)
    assert await status(server, "readiness") == await status(server, "liveness") == SERVING


async def test_a_stage_that_has_failed_is_neither_live_nor_ready_again(server: StageServer) -> None:
    server.set_serving()
    server.set_stalled("engine", True)
    server.fail(OSError("device lost"))
    await server.wait_failed()
    server.set_stalled("engine", False)
    server.set_serving()
    assert await status(server, "readiness") == await status(server, "liveness") == NOT_SERVING


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_call_without_its_request_ends(clock: Clock, stage: Any, method: str) -> None:
    """It needs no token, and a `Watch` counts as one of its connection from the request on."""
    response = health_pb2.HealthCheckResponse.FromString
    call = stage.channel.stream_stream(f"/grpc.health.v1.Health/{method}", response_deserializer=response)()
    labels = {"grpc_service": "grpc.health.v1.Health", "grpc_method": method}
    labels["grpc_type"] = "unary" if method == "Check" else "server_stream"
    await eventually(lambda: stage.server.metrics.registry.get_sample_value("grpc_server_started_total", labels))
    clock.put_forward(RECEIVE_S)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "No request has come for 10 s" in await call.details()


async def test_a_call_that_ends_without_its_request_is_refused(stage: Any) -> None:
    call = stage.channel.stream_stream("/grpc.health.v1.Health/Check")()
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
