"""Opens a channel from one stage to all replicas of another, with client-side load balancing and keepalive. It knows no
stage.

gRPC for Python propagates neither deadlines nor metadata: callers pass `timeout` and `call_metadata()`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import grpc

from services.common.rpc.calls import REQUEST_ID_KEY
from services.common.telemetry import logs, spans

ROUND_ROBIN: Mapping[str, Any] = {"round_robin": {}}
MOST_RECEIVED_BYTES = 16 * 2**20  # of one message
RESOLVE_AGAIN_AFTER_MS = 1_000  # gRPC's own default is 30 s, in which a new replica gets no call


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
        *_authority(target),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


def _authority(target: str) -> list[tuple[str, Any]]:
    """For a list of addresses the first one, which all certificates must have; gRPC would look for the whole list."""
    scheme, _, addresses = target.partition(":")
    is_list = scheme in ("ipv4", "ipv6") and "," in addresses
    return [("grpc.default_authority", unquote(addresses.lstrip("/").partition(",")[0]))] if is_list else []


def call_metadata() -> spans.TextMetadata:
    """Metadata that makes the next stage log under the same request id, and continue the trace."""
    request_id = logs.request_id.get()
    own = ((REQUEST_ID_KEY, request_id),) if request_id else ()
    return own + spans.outgoing_metadata()
