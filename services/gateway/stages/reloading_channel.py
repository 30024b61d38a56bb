"""A channel to the replicas of one stage that is reopened when its TLS files change, or when it finds no replica. It
knows no stage.

gRPC for Python reads a channel's certificates once, so changed files need a new channel for later calls. The old
channel is closed when its last call has ended, or with the end of the next call if it has none.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import grpc

from services.common.rpc.channel import ROUND_ROBIN, NextChannel, open_channel
from services.common.rpc.tls import Loaded
from services.common.watched_files import FollowedFiles

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
        self._target, self._make_stub, self._tls = target, make_stub, tls
        self._policy, self._health_service, self._silence_s = policy, health_service, silence_s
        self._loaded = None if tls is None else tls.get()
        self._connection = self._connect()
        self._next = NextChannel(self._open)
        self._retired: set[_Connection[Stub]] = set()
        self.renewed_at_s = -math.inf  # when `renew` last replaced it, on the monotonic clock

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Stub]:
        """The stub for one call, which must end inside the `with` block."""
        connection = self._newest()
        connection.num_calls += 1
        try:
            yield connection.stub
        finally:
            connection.num_calls -= 1
            await self._close_unused()

    def renew(self, stub: Stub | None = None) -> None:
        """Reports a silent replica: later calls use new connections, to replicas that answer health checks.

        stub: of the silent call; one of a replaced channel has no effect
        """
        if stub is None or stub is self._connection.stub:
            log.info("connecting anew to %s", self._target)
            self.renewed_at_s = time.monotonic()
            self._replace()

    async def close(self) -> None:
        """Closes all channels. Running calls are cancelled."""
        await self._next.close()
        for connection in (self._connection, *self._retired):
            await connection.channel.close(None)

    async def _close_unused(self) -> None:
        for connection in [each for each in self._retired if each.num_calls == 0]:
            self._retired.discard(connection)
            await connection.channel.close(None)

    def _newest(self) -> _Connection[Stub]:
        loaded = None if self._tls is None else self._tls.get()
        if loaded is not self._loaded:
            self._loaded = loaded
            self._replace()
        if (found := self._next.instead_of(self._connection.channel)) is not None:
            self._retired.add(self._connection)
            self._connection = _Connection(found, self._make_stub(found))
        return self._connection

    def _replace(self) -> None:
        self._next.drop()
        self._retired.add(self._connection)
        self._connection = self._connect()

    def _connect(self) -> _Connection[Stub]:
        channel = self._open()
        return _Connection(channel, self._make_stub(channel))

    def _open(self) -> grpc.aio.Channel:
        return open_channel(
            self._target,
            None if self._loaded is None else self._loaded.credentials,
            policy=self._policy,
            health_service=self._health_service,
            silence_s=self._silence_s,
        )


class _Connection(Generic[Stub]):
    def __init__(self, channel: grpc.aio.Channel, stub: Stub) -> None:
        self.channel, self.stub = channel, stub
        self.num_calls = 0
