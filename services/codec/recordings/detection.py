"""Watermark detection: in a recording in one message, or in a stream of up to an hour while it comes in.

Searches share the thread of the recording worker, in pieces, so that they do not hold up encoding: at most one second
of audio, or one reading of the decoder. The end of a search, which takes seconds after an hour, is in such pieces too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import numpy as np
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import InvalidRequestError, KeyringError
from csm_codec.resample import Pcm
from csm_codec.watermark.detect.evidence import most_keys
from csm_codec.watermark.detect.scanner import Scan, Scanner, scan_in_pieces
from csm_codec.watermark.keys.keyring import FindsKey, WatermarkKey
from csm_codec.watermark.keys.payload import PERIOD
from services.codec import convert
from services.codec.admission import Admission
from services.codec.load import LoadedCodec
from services.codec.metrics import CodecMetrics
from services.codec.recordings import sample_stream
from services.codec.recordings.worker import RecordingWorker
from services.common import values
from services.common.rpc.status import Resource, StatusError

Requests = AsyncIterator[codec_pb2.StreamDetectWatermarkRequest]


class WatermarkSearch:
    """Searches recordings for the watermarks of this codec's keys."""

    def __init__(
        self,
        loaded: LoadedCodec,
        recordings: RecordingWorker,
        slots: Admission,
        metrics: CodecMetrics,
        max_seconds: float,
    ) -> None:
        """slots: limit streams; max_seconds: longest stream"""
        self._loaded, self._recordings, self._slots, self._metrics = loaded, recordings, slots, metrics
        self._max_seconds = max_seconds
        self._whole = asyncio.Lock()  # whole recordings are searched one at a time, so that the first end first

    async def search(self, pcm: Pcm, sample_rate_hz: int, key_ids: Iterable[str]) -> codec_pb2.DetectWatermarkResponse:
        """A whole recording, which has been checked."""
        networks, keys = self._loaded.silentcipher, self._keys(key_ids)
        with self._recordings.admitted():
            async with self._whole:
                pieces = scan_in_pieces(networks, keys, pcm, sample_rate_hz)
                return self._response(await self._recordings.run_pieces(pieces))

    async def stream(self, requests: Requests, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raises InvalidRequestError, CodecBusyError, StatusError WATERMARK_KEY_NOT_FOUND, AUDIO_TOO_LONG or
        RECORDING_STALLED.
        """
        config: codec_pb2.StreamDetectWatermarkConfig = await sample_stream.read_config(requests)
        keys = self._keys(config.key_ids)
        await self._slots.take()
        try:
            started = codec_pb2.StreamDetectWatermarkStarted()
            await context.write(codec_pb2.StreamDetectWatermarkResponse(started=started))
            scanner = Scanner(self._loaded.silentcipher, keys, config.sample_rate_hertz)
            await self._push_all(requests, config, scanner)
            found = await self._recordings.run_pieces(scanner.finish_in_pieces())
        finally:
            self._slots.leave()
        await context.write(codec_pb2.StreamDetectWatermarkResponse(complete=self._response(found)))

    async def _push_all(
        self, requests: Requests, config: codec_pb2.StreamDetectWatermarkConfig, scanner: Scanner
    ) -> None:
        piece = config.sample_rate_hertz
        async for samples in sample_stream.whole_samples(requests, config, self._max_seconds):
            pcm = convert.to_pcm(samples, config.sample_format)
            if not np.isfinite(pcm).all():
                raise InvalidRequestError("samples", "hold numbers that are not finite")
            for start in range(0, len(pcm), piece):
                part = pcm[start : start + piece]
                await self._recordings.run_pieces(scanner.push_in_pieces(part))

    def _response(self, found: Scan) -> codec_pb2.DetectWatermarkResponse:
        self._metrics.observe_detection(found.whole)
        return codec_pb2.DetectWatermarkResponse(
            detected=found.whole.detected,
            confidence=found.whole.confidence,
            key_id=found.whole.key_id,
            stretches=[
                codec_pb2.WatermarkedStretch(
                    start_offset=values.seconds(stretch.start_s),
                    end_offset=values.seconds(stretch.end_s),
                    key_id=stretch.key_id,
                    confidence=stretch.confidence,
                )
                for stretch in found.stretches
            ],
        )

    def _keys(self, key_ids: Iterable[str]) -> list[WatermarkKey]:
        """The named keys, without repetition; all keys when none is named.

        Each key costs time and makes a match by chance likelier, so a caller may name only so many.
        """
        keyring = self._loaded.keyring.current
        named = [named_key(keyring, key_id) for key_id in dict.fromkeys(key_ids)]
        if not named:
            return list(keyring.keys.values())
        keys = list({key.id: key for key in named}.values())
        hparams = self._loaded.silentcipher.hparams
        max_keys = most_keys(PERIOD * hparams.hop / hparams.sample_rate_hz)
        if len(keys) > max_keys:
            raise InvalidRequestError(
                "key_ids", f"name {len(keys)} keys; at most {max_keys} are allowed, or a match could be chance"
            )
        return keys


def named_key(keys: FindsKey, key_id: str) -> WatermarkKey:
    """The key of that id; the active one for "". Raises StatusError NOT_FOUND."""
    try:
        return keys.get(key_id)
    except KeyringError as error:
        raise StatusError(
            grpc.StatusCode.NOT_FOUND,
            "WATERMARK_KEY_NOT_FOUND",
            str(error),
            resource=Resource("watermark_key", key_id),
        ) from None
