"""A pool of channels to the gateway. It knows no method.

A gateway limits the concurrent calls of one connection. gRPC queues further ones in the client until their deadline. So
a call above the limit goes over another channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.common.rpc.channel import NextChannel


class ChannelPool(grpc.aio.Channel):
    """Acts as one channel. Each call takes the first channel with room; a new one is opened when all are full."""

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel], calls_per_channel: int) -> None:
        """open_channel: its channels must not share connections. calls_per_channel: 0 is no limit"""
        self._open, self._calls_per_channel = open_channel, calls_per_channel
        self._channels = [_Channel(open_channel())]
        self._next = NextChannel(open_channel)
        self._retired: set[_Channel] = set()  # with calls

    @property
    def num_calls(self) -> Sequence[int]:
        """Running calls of each channel."""
        return [channel.num_calls for channel in self._channels]

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return self._callable("unary_unary", method, options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return self._callable("unary_stream", method, options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._callable("stream_unary", method, options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._callable("stream_stream", method, options)

    async def close(self, grace: float | None = None) -> None:
        await self._next.close()
        for channel in (*self._channels, *self._retired):
            await channel.channel.close(grace)

    async def __aenter__(self) -> ChannelPool:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channels[0].channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channels[0].channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channels[0].channel.channel_ready()

    def _callable(self, kind: str, method: tuple[Any, ...], options: dict[str, Any]) -> Callable[..., Any]:
        """The stub's method, which chooses the channel when it is called."""

        def call(*arguments: Any, **named: Any) -> Any:
            chosen = self._with_room()
            made = getattr(chosen.channel, kind)(*method, **options)(*arguments, **named)
            chosen.num_calls += 1
            made.add_done_callback(lambda _: self._release(chosen))
            return made

        return call

    def _release(self, channel: _Channel) -> None:
        channel.num_calls -= 1
        if channel in self._retired and not channel.num_calls:
            self._retired.discard(channel)
            self._next.retire(channel.channel)

    def _with_room(self) -> _Channel:
        if (found := self._next.instead_of(self._channels[0].channel)) is not None:
            for channel in self._channels:
                if channel.num_calls:
                    self._retired.add(channel)
                else:
                    self._next.retire(channel.channel)
            self._channels = [_Channel(found)]
        for channel in self._channels:
            if not self._calls_per_channel or channel.num_calls < self._calls_per_channel:
                return channel
        self._channels.append(_Channel(self._open()))
        return self._channels[-1]


class _Channel:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.num_calls = 0
