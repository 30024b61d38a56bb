"""Channels from one stage to all replicas of another, with client-side load balancing and keepalive. It knows no stage.

gRPC for Python propagates neither deadlines nor metadata: callers pass `timeout` and `call_metadata()`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from services.common.rpc.calls import REQUEST_ID_KEY
from services.common.telemetry import logs, spans

ROUND_ROBIN: Mapping[str, Any] = {"round_robin": {}}
MOST_RECEIVED_BYTES = 16 * 2**20  # of one message
RESOLVE_AGAIN_AFTER_MS = 1_000  # gRPC's own default is 30 s, in which a new replica gets no call
ANOTHER_AFTER_S = 1.0  # between two channels that are opened because none finds a replica


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    policy: Mapping[str, Any] = ROUND_ROBIN,
    health_service: str = "",
    silence_s: float = 0.0,
) -> grpc.aio.Channel:
    """A channel to every replica that `target` resolves to (a headless service).

    target: "dns:///engine:50061", "127.0.0.1:50061", ...; credentials: None is plaintext; policy: the load-balancing
    policy, as an entry of gRPC's loadBalancingConfig; health_service: only replicas that report it as SERVING on the
    same port, or have no health service, are used; silence_s: a connection whose peer answers no ping is closed within
    this many seconds, and connecting may take a quarter of them; 0 closes it after 50 s

    The name is resolved again when a connection closes, as connections do at the age that the replicas allow.
    """
    service_config: dict[str, Any] = {"loadBalancingConfig": [dict(policy)]}
    if health_service:
        service_config["healthCheckConfig"] = {"serviceName": health_service}
    keepalive_ms = (round(silence_s * 300), round(silence_s * 500)) if silence_s else (30_000, 20_000)
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", json.dumps(service_config)),
        # Otherwise a new channel shares the connection state, and the backoff, of an old one to the same address.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),  # the caller decides whether a call may run twice
        ("grpc.keepalive_time_ms", keepalive_ms[0]),
        ("grpc.keepalive_timeout_ms", keepalive_ms[1]),
        ("grpc.http2.ping_timeout_ms", keepalive_ms[1]),  # else 60 s for a ping that the library had to delay
        ("grpc.keepalive_permit_without_calls", int(silence_s > 0)),
        ("grpc.http2.max_pings_without_data", 0),  # keepalive is for streams in which only the peer sends
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),  # a replica that is back, perhaps the only one, is used soon
        # In fact the timeout of a connection attempt. Ring hash holds the calls of a frozen replica until it fails.
        ("grpc.min_reconnect_backoff_ms", round(silence_s * 250) or 20_000),
        ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_AGAIN_AFTER_MS),
        ("grpc.max_receive_message_length", MOST_RECEIVED_BYTES),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


def call_metadata() -> spans.TextMetadata:
    """Metadata that makes the next stage log under the same request id, and continue the trace."""
    request_id = logs.request_id.get()
    own = ((REQUEST_ID_KEY, request_id),) if request_id else ()
    return own + spans.outgoing_metadata()


class NextChannel:
    """Looks for a replica by another channel while the present one finds none. Use it in a running event loop.

    A channel whose name has no address, as that of a headless service without a ready replica, asks for it again after
    longer and longer delays, up to two minutes. A new channel asks at once.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        """open_channel: its channels must not share connections."""
        self._open = open_channel
        self._channel: grpc.aio.Channel | None = None
        self._opened_at_s = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    def instead_of(self, present: grpc.aio.Channel) -> grpc.aio.Channel | None:
        """A connected channel, which the caller then owns; None while `present` works, or no replica is found.

        To be called before each call of `present`. Until another channel is connected, calls of `present` fail at once,
        as they should without a replica.
        """
        if not _has_failed(present):
            self.drop()
            return None
        if self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY:
            found, self._channel = self._channel, None
            return found
        age_s = time.monotonic() - self._opened_at_s
        if self._channel is None or (_has_failed(self._channel) and age_s >= ANOTHER_AFTER_S):
            self.drop()
            self._channel, self._opened_at_s = self._open(), time.monotonic()
            self._channel.get_state(try_to_connect=True)
        return None

    def drop(self) -> None:
        """Ends the search."""
        if self._channel is not None:
            self.retire(self._channel)
            self._channel = None

    def retire(self, channel: grpc.aio.Channel) -> None:
        """Closes a channel without calls, in a task."""
        closing = asyncio.ensure_future(channel.close(None))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes what it has opened and still owns."""
        self.drop()
        await asyncio.gather(*self._closing)


def _has_failed(channel: grpc.aio.Channel) -> bool:
    """Whether it finds no replica: its name has no address, or none of them answers."""
    return channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
