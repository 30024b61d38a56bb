"""Channels with the service config that is shipped beside this file: every replica in turn, retries of UNAVAILABLE.

A stream is retried only while nothing has come; the server sends nothing before its first audio.
"""

from __future__ import annotations

from importlib import resources

import grpc

SERVICE_CONFIG = resources.files("csm_client").joinpath("tts_service_config.json")


def _options() -> list[tuple[str, str | int]]:
    return [
        ("grpc.service_config", SERVICE_CONFIG.read_text()),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def open_async_channel(target: str) -> grpc.aio.Channel:
    """target: "host:port", "dns:///name:port", ..."""
    return grpc.aio.insecure_channel(target, options=_options())


def open_channel(target: str) -> grpc.Channel:
    """target: "host:port", "dns:///name:port", ..."""
    return grpc.insecure_channel(target, options=_options())
