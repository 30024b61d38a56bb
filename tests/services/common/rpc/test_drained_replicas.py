"""Who follows the health of a name finds its new replicas while all those that it knew drain, as in a rollout whose
streams last for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
from grpc_health.v1 import health_pb2_grpc

from services.common.background import Background
from services.common.rpc import server
from services.common.rpc.server import StageServer
from services.common.settings import StageSettings
from services.gateway.stages import readiness
from services.gateway.stages.readiness import StageWatch
from services.gateway.stages.reloading_channel import ReloadingChannel
from services.http.api.health import GatewayHealth
from tests.support.network.name_server import NameServer, name_server
from tests.support.network.ports import free_ports

OLD, NEW = ("127.0.0.2", "127.0.0.3"), ("127.0.0.4", "127.0.0.5")
Serves = Callable[[bool], Awaitable[bool]]  # by the first replica, or again by another one
Follow = Callable[[str], AbstractAsyncContextManager[Serves]]


@asynccontextmanager
async def watch(target: str) -> AsyncIterator[Serves]:
    """A gateway's, of engines or codecs."""
    channel = ReloadingChannel(target, health_pb2_grpc.HealthStub, None)  # type: ignore[no-untyped-call]
    reports: list[bool] = []
    followed = StageWatch("engine", channel, lambda: reports.append(followed.serving))
    following = Background().start("watch", followed.run)

    async def serves(again: bool) -> bool:
        return reports[-1:] == [True] and len(reports) > again

    try:
        yield serves
    finally:
        following.cancel()
        await channel.close()


@asynccontextmanager
async def readyz(target: str) -> AsyncIterator[Serves]:
    """An HTTP server's, of gateways."""
    health = GatewayHealth(target)

    async def serves(again: bool) -> bool:
        return await health.is_ready()

    try:
        yield serves
    finally:
        await health.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    monkeypatch.setattr(server, "HEALTH_CONNECTION_AGE_MS", 200)
    monkeypatch.setattr(readiness, "ANOTHER_REPLICA_AFTER_S", 0.1)
    with name_server([]) as serving:
        yield serving


async def until(serves: Serves, again: bool) -> None:
    async with asyncio.timeout(60):
        while not await serves(again):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("follow", [watch, readyz])
async def test_new_replicas_are_found_while_all_known_ones_drain(names: NameServer, follow: Follow) -> None:
    async with AsyncExitStack() as stack:
        with free_ports(1) as (port,):
            pass

        async def start(address: str) -> StageServer:
            replica = StageServer(StageSettings(host=address, port=0, health_port=port, metrics_port=-1), [])
            await replica.start()
            stack.push_async_callback(replica.drain, 0)
            replica.set_serving()
            return replica

        drained = [await start(address) for address in OLD]
        names.addresses = list(OLD)
        serves = await stack.enter_async_context(follow(names.target(port)))
        await until(serves, again=False)
        for address in NEW:
            await start(address)
        names.addresses = list(NEW)
        for replica in drained:
            replica.set_serving(False)  # as in a drain that waits for a long stream
        await until(serves, again=True)
