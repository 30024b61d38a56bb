"""The channels of one client, which opens new ones and retires old ones while calls run. It knows no target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc


class OwnedChannels:
    """Counts the calls of each channel. A retired channel is closed, in a task, when its last call has ended.

    Use it in a running event loop.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        """open_channel: its channels must not share connections."""
        self._open = open_channel
        self.num_calls: dict[grpc.aio.Channel, int] = {}  # running calls of each channel that is not closed
        self._retired: set[grpc.aio.Channel] = set()  # with calls
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> grpc.aio.Channel:
        channel = self._open()
        self.num_calls[channel] = 0
        return channel

    def begin_call(self, channel: grpc.aio.Channel) -> None:
        self.num_calls[channel] += 1

    def end_call(self, channel: grpc.aio.Channel) -> None:
        self.num_calls[channel] -= 1
        if channel in self._retired:
            self.retire(channel)

    def retire(self, channel: grpc.aio.Channel) -> None:
        """Closes the channel after its last call. No further call may begin."""
        if self.num_calls[channel]:
            self._retired.add(channel)
            return
        self._retired.discard(channel)
        del self.num_calls[channel]
        closing = asyncio.ensure_future(channel.close(None))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        """Closes all channels. Calls that still run after `grace` seconds are cancelled."""
        self._retired.clear()
        await asyncio.gather(*self._closing, *(channel.close(grace) for channel in self.num_calls))
