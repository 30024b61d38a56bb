"""A recording that comes in pieces, cut anywhere: the config of the call, then whole samples as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import InvalidRequestError
from services.codec import convert
from services.common.rpc.status import StatusError

Request = codec_pb2.StreamEncodeRequest | codec_pb2.StreamDetectWatermarkRequest
Config = codec_pb2.StreamEncodeConfig | codec_pb2.StreamDetectWatermarkConfig

IDLE_SECONDS = 30.0  # longest wait for the next samples
SLOWEST = 100  # times the length of what has come: the longest that all waits together may exceed IDLE_SECONDS


async def read_config(requests: AsyncIterator[Request]) -> Any:
    """The first message, with a known format and rate. Raises InvalidRequestError, StatusError RECORDING_STALLED."""
    first = await _next(requests, IDLE_SECONDS)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError("config", "is missing; it must be the first message")
    convert.check_format(first.config.sample_format)
    convert.check_recording(np.zeros(1, np.float32), first.config.sample_rate_hertz)
    return first.config


async def whole_samples(requests: AsyncIterator[Request], config: Config, max_seconds: float) -> AsyncIterator[bytes]:
    """The later messages up to the half-close, each without the sample that its end cuts.

    Raises StatusError AUDIO_TOO_LONG as soon as they last longer, and RECORDING_STALLED where no sample comes, or few;
    InvalidRequestError at the end for half a sample or none at all.
    """
    size = convert.sample_size(config.sample_format)
    rest, num_samples, patience = b"", 0, _Patience()
    while (request := await patience.next(requests)) is not None:
        if request.WhichOneof("request") != "samples":
            raise InvalidRequestError("request", "must be samples after the first message")
        content = rest + request.samples
        whole = len(content) - len(content) % size
        rest = content[whole:]
        num_samples += whole // size
        patience.came(whole // size / config.sample_rate_hertz)
        if num_samples > max_seconds * config.sample_rate_hertz:
            raise convert.too_long(f"last more than {max_seconds:g} s, which is the most allowed.")
        yield content[:whole]
    if rest:
        raise InvalidRequestError("samples", f"end within a sample: with {len(rest)} of its {size} bytes")
    if not num_samples:
        raise InvalidRequestError("samples", "are missing; at least one mono sample is needed")


class _Patience:
    """How long a sender may still be waited for: not for ever, whatever it sends in place of samples."""

    def __init__(self) -> None:
        self._waited_s = self._quiet_s = 0.0  # in all, and since the last sample
        self._most_s = IDLE_SECONDS  # in all

    async def next(self, requests: AsyncIterator[Request]) -> Request | None:
        began_s = time.monotonic()
        try:
            return await _next(requests, min(self._most_s - self._waited_s, IDLE_SECONDS - self._quiet_s))
        finally:
            waited_s = time.monotonic() - began_s
            self._waited_s += waited_s
            self._quiet_s += waited_s

    def came(self, seconds: float) -> None:
        """seconds: of audio, none perhaps"""
        if seconds:
            self._quiet_s = 0.0
            self._most_s += SLOWEST * seconds


async def _next(requests: AsyncIterator[Request], most_s: float) -> Request | None:
    try:
        async with asyncio.timeout(most_s):
            return await anext(requests, None)
    except TimeoutError:
        why = f"No samples have come for {IDLE_SECONDS:g} s, or they come over {SLOWEST} times slower than they last."
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "RECORDING_STALLED", why) from None
