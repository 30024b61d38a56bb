"""The servicer of csm.v1.WatermarkService: finds watermarked parts of recordings. Keys never leave the codec.

A recording is decoded and sent to the codec in pieces, so a search needs constant memory. A search is admitted before
its request is read, so waiting recordings use no memory here.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, watermark_pb2

from services.common.rpc.calls import Context, caller_name
from services.common.rpc.status import FieldViolation, StatusError, invalid_argument, wrong_field
from services.gateway.audio.decoders import UnreadableAudioError
from services.gateway.audio.pieces import limited
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import ReadableFile
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.budgets.admission_queue import AdmissionQueue
from services.gateway.requests.recordings import check_format, check_size, is_rate, open_pieces, unreadable, wrong_rate
from services.gateway.rpc.byte_pipe import BytePipe, PipeTimeoutError
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import Detects
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_fields import renamed
from services.gateway.synthesis.deadline import Deadline, deadline_exceeded

READ_LATE = ("DetectWatermark",)  # see add_to_server
IDLE_SECONDS = 30.0  # longest wait of a search for the next bytes of its recording
SLOW_SECONDS = 30.0  # total wait for a sender, after which one below SLOW_BYTES_A_SECOND gives way to waiting calls
SLOW_BYTES_A_SECOND = 500  # Opus at its lowest rate, 6 kbit/s, sent live, has 750
REFUSED_SECONDS = 5.0  # how long the rest of a refused recording is read and dropped

_Unary = AsyncIterator[watermark_pb2.DetectWatermarkRequest]
_Pieces = AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]


class WatermarkServicer:
    """The servicer. It decodes recordings and passes their samples to the codec."""

    def __init__(self, settings: GatewaySettings, codec: Detects, quotas: StreamQuotas) -> None:
        self._settings, self._codec, self._quotas = settings, codec, quotas
        self._searches = AdmissionQueue(
            settings.max_detections,
            settings.max_waiting_detections,
            "DETECTION_BUSY",
            "recordings are being searched",
        )
        self._threads = ThreadPoolExecutor(settings.max_detections, thread_name_prefix="detection")

    async def DetectWatermark(self, requests: _Unary, context: Context) -> watermark_pb2.DetectWatermarkResponse:
        """requests: an iterator over the one request, which is received when it is read"""
        deadline = Deadline.of(context, self._settings)
        async with self._quotas.one_more(caller_name.get()):
            async with self._searches.take(deadline), deadline.kept():
                request = await _next(requests)
                if request is None:
                    raise wrong_field("recording", "is missing.")
                recording, longest_s = request.recording, self._settings.max_recording_seconds
                _check(check_format("recording", recording.audio_format))
                _check(check_size("recording", recording, longest_s))
                file = io.BytesIO(recording.audio_content)
                audio_format, key_ids = _copied(recording.audio_format), list(request.key_ids)
                del request, recording  # frees the encoded bytes
                found = await self._detect("recording", audio_format, file, key_ids, longest_s, deadline)
        return watermark_pb2.DetectWatermarkResponse(**_fields(found))

    async def StreamDetectWatermark(
        self, requests: _Pieces, context: Context
    ) -> watermark_pb2.StreamDetectWatermarkResponse:
        deadline = Deadline.of(context, self._settings)
        async with self._quotas.one_more(caller_name.get()):
            async with self._searches.take(deadline):
                async with deadline.kept():
                    first = await _next(requests)
                if first is None or first.WhichOneof("part") != "config":
                    raise wrong_field("config", "is missing; it must be the first message.")
                audio_format, key_ids = _copied(first.config.audio_format), list(first.config.key_ids)
                del first
                _check(check_format("config", audio_format))
                pipe = BytePipe(IDLE_SECONDS, deadline.remaining_s)  # the codec may have others to search first
                feeding = asyncio.create_task(self._feed(requests, pipe))
                try:
                    longest_s = self._settings.max_detection_seconds
                    async with deadline.kept():
                        found = await self._detect("", audio_format, pipe, key_ids, longest_s, deadline)
                        await feeding
                except PipeTimeoutError:  # caused by the sender; the feeding task may have the reason
                    await asyncio.wait({feeding}, timeout=0)
                    error = feeding.exception() if feeding.done() and not feeding.cancelled() else None
                    if isinstance(error, PipeTimeoutError):
                        error = deadline_exceeded()
                    raise (error or _stalled()) from None
                except StatusError:
                    # A sender that is still writing when the call ends may lose the status.
                    pipe.abort()
                    await asyncio.wait({feeding}, timeout=REFUSED_SECONDS)
                    raise
                finally:
                    pipe.abort()
                    feeding.cancel()
        return watermark_pb2.StreamDetectWatermarkResponse(**_fields(found))

    async def stop(self) -> None:
        """Frees the threads. To be called after the last call has ended."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _detect(
        self,
        field: str,
        audio_format: tts_pb2.AudioFormat,
        file: ReadableFile,
        key_ids: Sequence[str],
        longest_s: float,
        deadline: Deadline,
    ) -> codec_pb2.DetectWatermarkResponse:
        """field: path of the recording; "" in a stream"""
        pieces = open_pieces(audio_format, file)
        try:
            first = await self._next_piece(pieces)
            if first is None:
                raise wrong_field(_content(field), "holds no samples.", "AUDIO_EMPTY")
            if not is_rate(first.sample_rate_hz):
                _check(wrong_rate(field or "config", first.sample_rate_hz))
            config = codec_pb2.StreamDetectWatermarkConfig(
                sample_format=first.sample_format,
                sample_rate_hertz=first.sample_rate_hz,
                key_ids=dict.fromkeys(key_ids),  # each once: every extra key costs certainty and time
            )
            samples = self._samples(limited(chain((first,), pieces), longest_s))
            return await self._codec.detect(config, samples, deadline.remaining_s)
        except UnreadableAudioError as error:
            violation = unreadable(field, error)
            raise wrong_field(_content(field), violation.description, violation.reason) from None
        except StageError as error:
            raise renamed(error, lambda of_codec: _public_field(of_codec, field)) from None

    async def _feed(self, requests: _Pieces, pipe: BytePipe) -> None:
        """Writes the bytes of a recording into the pipe, as room allows.

        Raises StatusError DETECTION_BUSY for a slow sender while others wait.
        """
        waited_s, received = 0.0, 0
        try:
            while True:
                since_s = time.monotonic()
                if (content := await _next_content(requests)) is None:
                    break
                waited_s += time.monotonic() - since_s
                received += len(content)
                is_slow = received < SLOW_BYTES_A_SECOND * (waited_s - SLOW_SECONDS)
                if is_slow and self._searches.num_waiting:
                    raise self._searches.busy("this one arrives too slowly")
                await pipe.write(content)
                del content  # before the next one is awaited
        except StatusError:
            pipe.abort()
            raise
        pipe.end()

    async def _samples(self, pieces: Iterator[Recording]) -> AsyncGenerator[bytes, None]:
        while (piece := await self._next_piece(pieces)) is not None:
            yield piece.samples

    async def _next_piece(self, pieces: Iterator[Recording]) -> Recording | None:
        """Decodes in a thread, because reading a recording that is still arriving may block."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, next, pieces, None)


async def _next(requests: AsyncIterator[Any]) -> Any:
    """The next message, None at the half-close. Raises StatusError RECORDING_STALLED."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(requests, None)
    except TimeoutError:
        raise _stalled() from None


async def _next_content(requests: _Pieces) -> bytes | None:
    """The bytes of the next message, None at the half-close. The message itself is dropped."""
    request = await _next(requests)
    if request is not None and request.WhichOneof("part") != "audio_content":
        raise wrong_field("part", "must be audio_content after the first message.")
    return None if request is None else request.audio_content


def _stalled() -> StatusError:
    return StatusError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "RECORDING_STALLED",
        f"Nothing of the recording has come for {IDLE_SECONDS:g} s.",
    )


def _copied(audio_format: tts_pb2.AudioFormat) -> tts_pb2.AudioFormat:
    """A copy, because a reference to the field would keep the whole message."""
    return tts_pb2.AudioFormat(
        audio_encoding=audio_format.audio_encoding,
        sample_rate_hertz=audio_format.sample_rate_hertz,
        channel_count=audio_format.channel_count,
    )


def _fields(found: codec_pb2.DetectWatermarkResponse) -> dict[str, Any]:
    """The fields that both public responses share."""
    stretches = [
        watermark_pb2.WatermarkedStretch(
            start_offset=stretch.start_offset,
            end_offset=stretch.end_offset,
            key_id=stretch.key_id,
            confidence=stretch.confidence,
        )
        for stretch in found.stretches
    ]
    return {
        "detected": found.detected,
        "confidence": found.confidence,
        "key_id": found.key_id,
        "stretches": stretches,
    }


def _public_field(of_codec: str, field: str) -> str:
    """Translates a field of the codec's request into the caller's. field: see `_detect`"""
    match of_codec:
        case "key_ids":
            return "key_ids" if field else "config.key_ids"
        case "samples":
            return _content(field)
        case "sample_rate_hertz":
            return f"{field or 'config'}.audio_format.sample_rate_hertz"
    return field or "config"


def _content(field: str) -> str:
    return f"{field}.audio_content" if field else "audio_content"


def _check(violation: FieldViolation | None) -> None:
    if violation is not None:
        raise invalid_argument([violation])
