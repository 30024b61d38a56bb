"""Channels to servers: round robin over replicas, and retries of UNAVAILABLE (tts_service_config.json).

A channel may be watched by gRPC's own health check: servers that report NOT_SERVING get no calls.

gRPC retries a stream only until its first message, and the server sends nothing before its first audio. Retries end
after five failures in a row, and go on while no more calls fail than succeed (`retryThrottling`). With a ratio of 0.1,
as in gRPC's examples, half of the calls would fail while one of two servers is not ready. From 1 on, gRPC's core gives
no token back (1.85). TLS files are read once, when the channel is opened.
"""

from __future__ import annotations

import codecs
import json
import ssl
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Never, TypedDict

import grpc

from csm_client.errors import ClientClosedError, TlsFileError
from csm_client.targets import first_address, is_loopback, lists_several

KEEPALIVE_MS = (2_000, 4_000)  # until a ping, and until its answer, to notice a dead server
CONNECT_MS = 6_000  # for a connection, TLS included; as long as it takes to notice a dead server
Option = tuple[str, str | int]
SERVICE_CONFIG = resources.files("csm_client").joinpath("tts_service_config.json")
# Servers of older versions, which do not report their health on this port, count as serving.
WATCHED = {"healthCheckConfig": {"serviceName": "csm.v1.TextToSpeechService"}}


class TlsOptions(TypedDict, total=False):
    """How to reach a server over TLS; plaintext when nothing is set."""

    tls: bool  # trust the authorities shipped with gRPC
    tls_ca: Path | None  # trust those of this PEM file instead; implies tls
    tls_certificate: Path | None  # PEM chain, for servers that require client certificates; with tls_key
    tls_key: Path | None  # PEM, not encrypted


class ClosedStub:
    """Replaces the stubs of a closed client, for which gRPC would raise its own errors."""

    def __getattr__(self, method: str) -> Never:
        raise ClientClosedError("The client is closed. Make a new one, or close it after its last call.")


def service_config(*, watched: bool) -> str:
    """As JSON. watched: whether servers that report NOT_SERVING get no calls"""
    return json.dumps(json.loads(SERVICE_CONFIG.read_text()) | (WATCHED if watched else {}))


def _options(target: str, watched: bool) -> list[Option]:
    return [
        ("grpc.enable_http_proxy", 0 if is_loopback(target) else 1),  # a proxy's loopback is another host
        ("grpc.service_config", service_config(watched=watched)),
        # Otherwise channels of one process share a connection, and the calls that a server takes on it.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS[0]),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS[1]),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS[1]),  # else 60 s for a ping that the library had to delay
        ("grpc.http2.max_pings_without_data", 0),  # else pings end, or slow down, while only the server sends
        # By default a server that was away is tried again after up to two minutes, while the others may be lost too.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # By default an address that never answers, as that of a node that is gone, holds a call for 20 s.
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        # By default a name is not asked for again for 30 s, in which a rollout may have moved every replica.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # gRPC would look for the whole list in a server's certificate. In Node it looks for the first address.
        *([("grpc.default_authority", first_address(target))] if lists_several(target) else []),
    ]


def open_async_channel(
    target: str,
    tls: TlsOptions | grpc.ChannelCredentials | None,
    further: Sequence[Option] = (),
    *,
    watched: bool = False,
) -> grpc.aio.Channel:
    """target: "host:port", "dns:///name:port", ...; tls: also what `read_credentials` has made of it; further: options
    of gRPC, in place of those of the same name; watched: whether servers that report NOT_SERVING get no calls
    """
    options = list(dict([*_options(target, watched), *further]).items())  # of two values gRPC uses the first
    credentials = read_credentials(tls) if isinstance(tls, dict) else tls
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, options=options)
    return grpc.aio.insecure_channel(target, options=options)


def open_channel(target: str, tls: TlsOptions, *, watched: bool = False) -> grpc.Channel:
    """target: "host:port", "dns:///name:port", ...; watched: whether servers that report NOT_SERVING get no calls"""
    if (credentials := read_credentials(tls)) is not None:
        return grpc.secure_channel(target, credentials, options=_options(target, watched))
    return grpc.insecure_channel(target, options=_options(target, watched))


def is_encrypted(tls: TlsOptions) -> bool:
    """Whether the options ask for TLS."""
    return bool(tls.get("tls")) or tls.get("tls_ca") is not None


def read_credentials(tls: TlsOptions) -> grpc.ChannelCredentials | None:
    """None for plaintext. Raises TlsFileError."""
    ca, certificate, key = tls.get("tls_ca"), tls.get("tls_certificate"), tls.get("tls_key")
    if (certificate is None) != (key is None):
        raise TlsFileError("A client certificate and its key must be given together.")
    if not is_encrypted(tls):
        if certificate is not None:
            raise TlsFileError("A client certificate needs TLS: set tls or tls_ca (csm: --tls or --tls-ca).")
        return None
    roots = None if ca is None else _read_authorities(ca)
    if certificate is None or key is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, *_read_pair(certificate, key))


def _read_authorities(path: Path) -> bytes:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        return _read_pem(path)
    except OSError as error:  # SSLError is one
        raise TlsFileError(f"{path} must hold the PEM certificates of the server's CAs: {error}") from None


def _read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """(key, certificate)"""
    try:
        # The empty password makes an encrypted key an error instead of a question on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
        return _read_pem(key), _read_pem(certificate)
    except OSError as error:
        raise TlsFileError(
            f"{certificate} and {key} must be a PEM certificate chain and its unencrypted key: {error}"
        ) from None


def _read_pem(path: Path) -> bytes:
    """The content without the byte order mark that some editors write, which OpenSSL skips and gRPC does not."""
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)
