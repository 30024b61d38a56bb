"""The channel of a client, with its stubs. When it finds no server, and a new channel does, the new one replaces it.

A channel whose name has no address, as that of a headless service without a ready replica, asks for it again after
longer and longer delays, up to two minutes. A new channel asks at once.

If the target lists several servers, the first channel gives calls only to those that report SERVING. When none does, a
new channel gives calls to all of them: some calls need no engine, and a server says itself why it refuses the others.
Calls go over the first channel again once one of its servers serves.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Container
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
from csm.v1 import tts_pb2_grpc, voices_pb2_grpc, watermark_pb2_grpc

from csm_client.channel import ClosedStub, TlsOptions, open_async_channel, open_channel
from csm_client.errors import TlsFileError
from csm_client.targets import lists_several

SEARCH_S = 1.0  # in which a new channel must find a server, and between two searches

_READY = grpc.ChannelConnectivity.READY
_ANY = tuple(grpc.ChannelConnectivity)
_ENDS = (_READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)  # of a search

Channel = TypeVar("Channel")


class _Connection(Generic[Channel]):
    """A replaced channel is not closed, because calls may still run on it; gRPC closes it when they have ended."""

    def __init__(self, own: Channel | None, open_channel: Callable[..., Channel], target: str, tls: TlsOptions) -> None:
        """own: the caller's channel, which is never replaced. open_channel: of channel.py, for this kind of channel"""
        self._open: Callable[..., Channel] = partial(open_channel, target, tls)
        self._may_search = own is None
        is_watched = self._may_search and lists_several(target)
        self._watched = self._open(watched=True) if is_watched else None
        self._searched_at_s = -math.inf if is_watched else time.monotonic()
        self._use(own or self._watched or self._open())

    @property
    def channel(self) -> Channel:
        """That of the stubs, for the next call."""
        watched = self._watched
        if watched is not None and self._channel is not watched and self._may_search and self._is_ready(watched):
            self._searched_at_s = -math.inf
            self._use(watched)
        return self._channel

    def _is_ready(self, watched: Channel) -> bool:
        raise NotImplementedError

    def _use(self, channel: Channel) -> None:
        self._channel = channel
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
        self._looked_at_s = -math.inf

    def close(self) -> None:
        self._end()
        for channel in filter(None, {self._channel, self._watched}):
            channel.close()

    def _is_ready(self, watched: grpc.Channel) -> bool:
        """Asked at most every SEARCH_S, because gRPC starts a thread for the answer."""
        if time.monotonic() - self._looked_at_s < SEARCH_S:
            return False
        self._looked_at_s = time.monotonic()
        return _state_of(watched) is _READY and self._may_search  # it may have been closed meanwhile

    def finds_another(self, tried: grpc.Channel) -> bool:
        """Whether a call that reached no server over `tried` may be made again over a channel that has found one."""
        with self._searching:
            if self._channel is not tried or self._must_wait:
                return self._channel is not tried
            if (channel := self._open_another()) is None:
                return False
            state = _state_of(channel, _ENDS)
            self._searched_at_s = time.monotonic()
            if self._may_search and state is _READY:
                self._use(channel)
                return True
            channel.close()
            return False


def _state_of(
    channel: grpc.Channel, awaited: Container[grpc.ChannelConnectivity] = _ANY
) -> grpc.ChannelConnectivity | None:
    """The first that is awaited; None if there is none within SEARCH_S. The channel connects."""
    states = queue.SimpleQueue[grpc.ChannelConnectivity]()

    def follow(state: grpc.ChannelConnectivity) -> None:
        if state in awaited:
            states.put(state)

    channel.subscribe(follow, try_to_connect=True)
    try:
        return states.get(timeout=SEARCH_S)
    except queue.Empty:
        return None
    finally:
        channel.unsubscribe(follow)


class AsyncConnection(_Connection[grpc.aio.Channel]):
    """Of the asynchronous client."""

    def __init__(self, own: grpc.aio.Channel | None, target: str, tls: TlsOptions) -> None:
        super().__init__(own, open_async_channel, target, tls)
        self._searching = asyncio.Lock()

    async def close(self) -> None:
        self._end()
        for channel in filter(None, {self._channel, self._watched}):
            await channel.close(None)

    def _is_ready(self, watched: grpc.aio.Channel) -> bool:
        return watched.get_state(try_to_connect=True) is _READY

    async def finds_another(self, tried: grpc.aio.Channel) -> bool:
        """As Connection's."""
        async with self._searching:
            if self._channel is not tried or self._must_wait:
                return self._channel is not tried
            if (channel := self._open_another()) is None:
                return False
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEARCH_S):
                        while (state := channel.get_state(try_to_connect=True)) not in _ENDS:
                            await channel.wait_for_state_change(state)
                if self._may_search and channel.get_state() is _READY:
                    self._use(channel)
                    return True
            finally:
                self._searched_at_s = time.monotonic()
                if channel is not self._channel:
                    await channel.close(None)
            return False


async def next_message(call: Any) -> Any:
    """Of a stream of grpc.aio; None after its end.

    A reader that is cancelled cancels no read: grpc.aio would never free the message that comes at that moment. The
    read ends with the call, which the reader then cancels.
    """
    message = await asyncio.shield(asyncio.ensure_future(call.read()))
    return None if message is grpc.aio.EOF else message  # type: ignore[attr-defined]  # the stubs forget it
