"""A pool of channels to the gateway. It knows no method.

A gateway limits the concurrent calls of one connection. gRPC queues further ones in the client until their deadline. So
a call above the limit goes over another channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.common.rpc.channels.next_channel import NextChannel
from services.common.rpc.channels.owned_channels import OwnedChannels


class ChannelPool(grpc.aio.Channel):
    """Acts as one channel. Each call takes the first channel with room; a new one is opened when all are full."""

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel], calls_per_channel: int) -> None:
        """open_channel: its channels must not share connections. calls_per_channel: 0 is no limit"""
        self._calls_per_channel = calls_per_channel
        self._owned = OwnedChannels(open_channel)
        self._next = NextChannel(self._owned)
        self._channels = [self._owned.open()]  # for further calls

    @property
    def num_calls(self) -> Sequence[int]:
        """Running calls of each channel."""
        return [self._owned.num_calls[channel] for channel in self._channels]

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return self._callable("unary_unary", method, options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return self._callable("unary_stream", method, options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._callable("stream_unary", method, options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._callable("stream_stream", method, options)

    async def close(self, grace: float | None = None) -> None:
        await self._owned.close(grace)

    async def __aenter__(self) -> ChannelPool:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channels[0].get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channels[0].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channels[0].channel_ready()

    def _callable(self, kind: str, method: tuple[Any, ...], options: dict[str, Any]) -> Callable[..., Any]:
        """The stub's method, which chooses the channel when it is called."""

        def call(*arguments: Any, **named: Any) -> Any:
            channel = self._with_room()
            made = getattr(channel, kind)(*method, **options)(*arguments, **named)
            self._owned.begin_call(channel)
            made.add_done_callback(lambda _: self._owned.end_call(channel))
            return made

        return call

    def finds_no_replica(self) -> bool:
        """Whether a call would fail at once. Looks for a replica, as a call does."""
        self._take_found()
        return self.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def _take_found(self) -> None:
        if (found := self._next.instead_of(self._channels[0])) is not None:
            for channel in self._channels:
                self._owned.retire(channel)
            self._channels = [found]

    def _with_room(self) -> grpc.aio.Channel:
        self._take_found()
        for channel, num_calls in zip(self._channels, self.num_calls, strict=True):
            if not self._calls_per_channel or num_calls < self._calls_per_channel:
                return channel
        self._channels.append(self._owned.open())
        return self._channels[-1]
