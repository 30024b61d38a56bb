"""Reads a recording in pieces: the config of the call, then the samples. A piece may end within a sample."""

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
SLOWEST = 100  # all waits together may take IDLE_SECONDS, and this many times the audio received


async def read_config(requests: AsyncIterator[Request]) -> Any:
    """The first message, with a known format and rate. Raises InvalidRequestError, StatusError RECORDING_STALLED."""
    first = await _next(requests, IDLE_SECONDS)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError("config", "is missing; it must be the first message")
    convert.check_format(first.config.sample_format)
    convert.check_recording(np.zeros(1, np.float32), first.config.sample_rate_hertz)
    return first.config


async def whole_samples(requests: AsyncIterator[Request], config: Config, max_seconds: float) -> AsyncIterator[bytes]:
    """The samples of each later message, up to the half-close. A sample that is cut is moved to the next message.

    Raises StatusError AUDIO_TOO_LONG above `max_seconds`, and RECORDING_STALLED when samples come too slowly;
    InvalidRequestError when the stream ends within a sample, or has none.
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
        patience.received(whole // size / config.sample_rate_hertz)
        if num_samples > max_seconds * config.sample_rate_hertz:
            raise convert.too_long(f"last more than {max_seconds:g} s, which is the most allowed.")
        yield content[:whole]
    if rest:
        raise InvalidRequestError("samples", f"end within a sample: with {len(rest)} of its {size} bytes")
    if not num_samples:
        raise InvalidRequestError("samples", "are missing; at least one mono sample is needed")


class _Patience:
    """Limits the time spent waiting for a sender, also for one that sends messages without samples."""

    def __init__(self) -> None:
        self._waited_s = self._quiet_s = 0.0  # in total, and since the last sample
        self._max_wait_s = IDLE_SECONDS  # in total

    async def next(self, requests: AsyncIterator[Request]) -> Request | None:
        began_s = time.monotonic()
        try:
            return await _next(requests, min(self._max_wait_s - self._waited_s, IDLE_SECONDS - self._quiet_s))
        finally:
            waited_s = time.monotonic() - began_s
            self._waited_s += waited_s
            self._quiet_s += waited_s

    def received(self, seconds: float) -> None:
        """seconds: of audio, possibly 0"""
        if seconds:
            self._quiet_s = 0.0
            self._max_wait_s += SLOWEST * seconds


async def _next(requests: AsyncIterator[Request], timeout_s: float) -> Request | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await anext(requests, None)
    except TimeoutError:
        why = f"No samples have come for {IDLE_SECONDS:g} s, or they come over {SLOWEST} times slower than they last."
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "RECORDING_STALLED", why) from None
