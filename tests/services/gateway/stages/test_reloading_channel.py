"""Every replaced channel is closed, whether it has calls at that time or not."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from services.common.rpc.channels import next_channel, opening
from services.gateway.stages import reloading_channel
from services.gateway.stages.balancing import BY_CONVERSATION, BY_LOAD, conversation_metadata
from services.gateway.stages.reloading_channel import ReloadingChannel

SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


@pytest.fixture
def channels() -> list[grpc.aio.Channel]:
    """The channels that were opened, in order."""
    return []


@pytest.fixture
async def channel(channels: list[grpc.aio.Channel]) -> ReloadingChannel[grpc.aio.Channel]:
    def remembered(channel: grpc.aio.Channel) -> grpc.aio.Channel:
        channels.append(channel)
        return channel

    return ReloadingChannel("localhost:1", remembered, None)


async def test_a_channel_without_calls_closes_when_it_is_replaced(
    channel: ReloadingChannel[grpc.aio.Channel], channels: list[grpc.aio.Channel]
) -> None:
    async with channel.call() as silent:
        pass
    channel.renew(silent)
    await asyncio.sleep(0)
    assert channels[0].get_state() is SHUTDOWN
    async with channel.call() as newest:
        assert newest is channels[1]
    assert channels[1].get_state() is not SHUTDOWN
    await channel.close()


async def test_a_channel_with_calls_outlives_those_of_others(
    channel: ReloadingChannel[grpc.aio.Channel], channels: list[grpc.aio.Channel]
) -> None:
    async with channel.call():
        channel.renew()
        async with channel.call():
            pass
        await asyncio.sleep(0)
        assert channels[0].get_state() is not SHUTDOWN
    await asyncio.sleep(0)
    assert channels[0].get_state() is SHUTDOWN
    await channel.close()


async def test_the_end_closes_replaced_channels_with_calls_too(
    channel: ReloadingChannel[grpc.aio.Channel], channels: list[grpc.aio.Channel]
) -> None:
    async with channel.call():
        channel.renew()
        await channel.close()
        assert [each.get_state() for each in channels] == [SHUTDOWN] * 2


@pytest.mark.parametrize("policy", [BY_LOAD, BY_CONVERSATION], ids=["by load", "by conversation"])
async def test_a_channel_that_finds_no_replica_is_replaced_by_one_that_does(
    policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a name that had no address: gRPC asks for it again only after up to two minutes. A channel by ring hash
    connects with its first call only.
    """
    monkeypatch.setattr(next_channel, "ANOTHER_AFTER_S", 0.05)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    opened = list[grpc.aio.Channel]()
    targets = iter(["127.0.0.1:1", "127.0.0.1:1", f"127.0.0.1:{port}"])

    def open_channel(target: str, credentials: None, **options: Any) -> grpc.aio.Channel:
        opened.append(opening.open_channel(next(targets), credentials, **options))
        return opened[-1]

    monkeypatch.setattr(reloading_channel, "open_channel", open_channel)
    channel = ReloadingChannel("replicas:1", health_pb2_grpc.HealthStub, None, policy=policy)
    failed = 0
    async with asyncio.timeout(20):
        while True:
            try:
                async with channel.call() as stub:
                    await stub.Check(health_pb2.HealthCheckRequest(), metadata=conversation_metadata("key", 0))
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                failed += 1
            await asyncio.sleep(0.02)
    assert failed >= 2 and len(opened) == 3
    assert [each.get_state() for each in opened[:2]] == [SHUTDOWN] * 2, "those that are not needed are closed"
    await channel.close()
    await server.stop(0)
