"""The channel of a client, with its stubs. When it finds no server, and a new channel does, the new one replaces it.

A channel whose name has no address, as that of a headless service without a ready replica, asks for it again after
longer and longer delays, up to two minutes. A new channel asks at once.

If the target lists several servers, the first channel gives calls only to those that report SERVING. When none does, a
new channel gives calls to all of them: some calls need no engine, and a server says itself why it refuses the others.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
from csm.v1 import tts_pb2_grpc, voices_pb2_grpc, watermark_pb2_grpc

from csm_client.channel import ClosedStub, TlsOptions, open_async_channel, open_channel
from csm_client.errors import TlsFileError
from csm_client.targets import lists_several

SEARCH_S = 1.0  # in which a new channel must find a server, and between two searches

_ENDS = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)  # of a search

Channel = TypeVar("Channel")


class _Connection(Generic[Channel]):
    """A replaced channel is not closed, because calls may still run on it; gRPC closes it when they have ended."""

    def __init__(self, own: Channel | None, open_channel: Callable[..., Channel], target: str, tls: TlsOptions) -> None:
        """own: the caller's channel, which is never replaced. open_channel: of channel.py, for this kind of channel"""
        self._open: Callable[..., Channel] = partial(open_channel, target, tls)
        self._may_search = own is None
        watched = lists_several(target)
        self._searched_at_s = -math.inf if watched else time.monotonic()
        self._use(own or self._open(watched=watched))

    def _use(self, channel: Channel) -> None:
        self.channel = channel
        self.tts: Any = tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
        self.voices: Any = voices_pb2_grpc.VoiceServiceStub(channel)  # type: ignore[no-untyped-call]
        self.watermark: Any = watermark_pb2_grpc.WatermarkServiceStub(channel)  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        self._may_search = False
        self.tts = self.voices = self.watermark = ClosedStub()

    def _open_another(self) -> Channel | None:
        """None if its TLS files cannot be read just now, as those of a channel are read when it is opened."""
        try:
            return self._open()
        except TlsFileError:
            self._searched_at_s = time.monotonic()
            return None

    @property
    def _must_wait(self) -> bool:
        return not self._may_search or time.monotonic() - self._searched_at_s < SEARCH_S


class Connection(_Connection[grpc.Channel]):
    """Of the synchronous client."""

    def __init__(self, own: grpc.Channel | None, target: str, tls: TlsOptions) -> None:
        super().__init__(own, open_channel, target, tls)
        self._searching = threading.Lock()

    def close(self) -> None:
        self._end()
        self.channel.close()

    def finds_another(self, tried: grpc.Channel) -> bool:
        """Whether a call that reached no server over `tried` may be made again over a channel that has found one."""
        with self._searching:
            if self.channel is not tried or self._must_wait:
                return self.channel is not tried
            if (channel := self._open_another()) is None:
                return False
            states, has_ended = list[grpc.ChannelConnectivity](), threading.Event()

            def follow(state: grpc.ChannelConnectivity) -> None:
                states.append(state)
                if state in _ENDS:
                    has_ended.set()

            channel.subscribe(follow, try_to_connect=True)
            has_ended.wait(SEARCH_S)
            channel.unsubscribe(follow)
            self._searched_at_s = time.monotonic()
            if self._may_search and grpc.ChannelConnectivity.READY in states:
                self._use(channel)
                return True
            channel.close()
            return False


class AsyncConnection(_Connection[grpc.aio.Channel]):
    """Of the asynchronous client."""

    def __init__(self, own: grpc.aio.Channel | None, target: str, tls: TlsOptions) -> None:
        super().__init__(own, open_async_channel, target, tls)
        self._searching = asyncio.Lock()

    async def close(self) -> None:
        self._end()
        await self.channel.close(None)

    async def finds_another(self, tried: grpc.aio.Channel) -> bool:
        """As Connection's."""
        async with self._searching:
            if self.channel is not tried or self._must_wait:
                return self.channel is not tried
            if (channel := self._open_another()) is None:
                return False
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEARCH_S):
                        while (state := channel.get_state(try_to_connect=True)) not in _ENDS:
                            await channel.wait_for_state_change(state)
                if self._may_search and channel.get_state() is grpc.ChannelConnectivity.READY:
                    self._use(channel)
                    return True
            finally:
                self._searched_at_s = time.monotonic()
                if channel is not self.channel:
                    await channel.close(None)
            return False
