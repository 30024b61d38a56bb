"""Every replaced channel is closed, whether it has calls at that time or not."""

from __future__ import annotations

import grpc
import pytest

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


async def test_a_channel_that_is_replaced_after_its_last_call_closes_with_the_next_one(
    channel: ReloadingChannel[grpc.aio.Channel], channels: list[grpc.aio.Channel]
) -> None:
    async with channel.call() as silent:
        pass
    channel.renew(silent)
    async with channel.call() as newest:
        assert newest is channels[1]
    assert channels[0].get_state() is SHUTDOWN
    assert channels[1].get_state() is not SHUTDOWN
    await channel.close()


async def test_a_channel_with_calls_outlives_those_of_others(
    channel: ReloadingChannel[grpc.aio.Channel], channels: list[grpc.aio.Channel]
) -> None:
    async with channel.call():
        channel.renew()
        async with channel.call():
            pass
        assert channels[0].get_state() is not SHUTDOWN
    assert channels[0].get_state() is SHUTDOWN
    await channel.close()
