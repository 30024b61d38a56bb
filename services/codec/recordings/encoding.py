"""Encodes recordings into codes: one in a message, or one that comes in pieces.

Pieces are collected until the last one has come. They are joined and encoded in the recording worker's thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import InvalidRequestError
from csm_codec.levels import measure
from csm_codec.mimi.encoder import encode
from csm_codec.resample import Pcm
from services.codec import convert
from services.codec.load import LoadedCodec
from services.codec.metrics import CodecMetrics
from services.codec.recordings import sample_stream
from services.codec.recordings.worker import RecordingWorker
from services.common import values

_MIN_PIECE_BYTES = 4096  # smaller pieces are merged, for each costs memory beside its samples


class RecordingEncoder:
    """Encodes recordings, and measures their levels if asked to."""

    def __init__(
        self, loaded: LoadedCodec, recordings: RecordingWorker, metrics: CodecMetrics, max_seconds: float
    ) -> None:
        """max_seconds: longest recording in pieces"""
        self._mimi, self._recordings, self._metrics, self._max_seconds = loaded.mimi, recordings, metrics, max_seconds

    async def encode(self, pcm: Pcm, sample_rate_hz: int, *, measured: bool) -> codec_pb2.EncodeResponse:
        """A whole recording, which has been checked. Raises CodecBusyError."""
        with self._recordings.admitted():
            return await self._encode(pcm, sample_rate_hz, measured=measured)

    async def stream(
        self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Raises InvalidRequestError, CodecBusyError, StatusError AUDIO_TOO_LONG or RECORDING_STALLED."""
        config: codec_pb2.StreamEncodeConfig = await sample_stream.read_config(requests)
        with self._recordings.admitted():
            await context.write(codec_pb2.StreamEncodeResponse(started=codec_pb2.StreamEncodeStarted()))
            pcm = await self._receive(requests, config)
            complete = await self._encode(pcm, config.sample_rate_hertz, measured=config.measure)
        await context.write(codec_pb2.StreamEncodeResponse(complete=complete))

    async def _receive(
        self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], config: codec_pb2.StreamEncodeConfig
    ) -> Pcm:
        pieces = [b""]
        async for piece in sample_stream.whole_samples(requests, config, self._max_seconds):
            if len(pieces[-1]) < _MIN_PIECE_BYTES:
                pieces[-1] += piece
            else:
                pieces.append(piece)

        def joined() -> Pcm:
            samples = b"".join(pieces)
            pieces.clear()
            pcm = convert.to_pcm(samples, config.sample_format)
            convert.check_recording(pcm, config.sample_rate_hertz)
            return pcm

        return await self._recordings.run_admitted(joined)

    async def _encode(self, pcm: Pcm, sample_rate_hz: int, *, measured: bool) -> codec_pb2.EncodeResponse:
        try:
            codes = await self._recordings.run_admitted(lambda: encode(self._mimi, pcm, sample_rate_hz))
        except InvalidRequestError as error:
            raise convert.in_api_terms(error) from None
        self._metrics.observe_encoding(len(pcm) / sample_rate_hz)
        response = codec_pb2.EncodeResponse(
            codes=convert.from_codes(codes), codec=values.from_identity(self._mimi.identity)
        )
        if measured:
            levels = await self._recordings.run_admitted(lambda: measure(pcm, sample_rate_hz))
            response.levels.CopyFrom(codec_pb2.RecordingLevels(**asdict(levels)))
        return response
