"""A channel to the replicas of one stage that is reopened when its TLS files change, or when it finds no replica. It
knows no stage.

gRPC for Python reads a channel's certificates once, so changed files need a new channel for later calls. The old
channel is closed when its last call has ended.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import grpc

from services.common.followed_files import FollowedFiles
from services.common.rpc.channels.next_channel import NextChannel
from services.common.rpc.channels.opening import ROUND_ROBIN, open_channel
from services.common.rpc.channels.owned_channels import OwnedChannels
from services.common.rpc.tls import Loaded

log = logging.getLogger("csm.tls")

Stub = TypeVar("Stub")


class ReloadingChannel(Generic[Stub]):
    """Lends a stub for each call. Create it in a running event loop."""

    def __init__(
        self,
        target: str,
        make_stub: Callable[[grpc.aio.Channel], Stub],
        tls: FollowedFiles[Loaded[grpc.ChannelCredentials]] | None,
        *,
        policy: Mapping[str, Any] = ROUND_ROBIN,
        health_service: str = "",
        silence_s: float = 0.0,
    ) -> None:
        """tls: plaintext when None; the others: see open_channel"""
        self.target, self._make_stub, self._tls = target, make_stub, tls
        self._policy, self._health_service, self._silence_s = policy, health_service, silence_s
        self._loaded = None if tls is None else tls.current
        self._channels = OwnedChannels(self._open)
        self._next = NextChannel(self._channels)
        self._use(self._channels.open())
        self.renewed_at_s = -math.inf  # when `renew` last replaced it, on the monotonic clock

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Stub]:
        """The stub for one call, which must end inside the `with` block."""
        self._refresh()
        channel, stub = self._channel, self._stub
        self._channels.begin_call(channel)
        try:
            yield stub
        finally:
            self._channels.end_call(channel)

    def renew(self, stub: Stub | None = None) -> None:
        """Reports a silent replica: later calls use new connections, to replicas that answer health checks.

        stub: of the silent call; one of a replaced channel has no effect
        """
        if stub is None or stub is self._stub:
            log.info("connecting anew to %s", self.target)
            self.renewed_at_s = time.monotonic()
            self._replace()

    async def close(self) -> None:
        """Closes all channels. Running calls are cancelled."""
        await self._channels.close()

    def _refresh(self) -> None:
        """Replaces the channel if its TLS files have changed, or if another one has found a replica."""
        loaded = None if self._tls is None else self._tls.current
        if loaded is not self._loaded:
            self._loaded = loaded
            self._replace()
        elif (found := self._next.instead_of(self._channel)) is not None:
            self._channels.retire(self._channel)
            self._use(found)

    def _replace(self) -> None:
        self._next.drop()
        self._channels.retire(self._channel)
        self._use(self._channels.open())

    def _use(self, channel: grpc.aio.Channel) -> None:
        self._channel, self._stub = channel, self._make_stub(channel)

    def _open(self) -> grpc.aio.Channel:
        return open_channel(
            self.target,
            None if self._loaded is None else self._loaded.credentials,
            policy=self._policy,
            health_service=self._health_service,
            silence_s=self._silence_s,
        )
