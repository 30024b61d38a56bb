"""Limits the gateway's memory for recordings.

Recordings are in memory from the arrival of their request until they are encoded. Over all calls the number of large
requests is limited, and so are the bytes of decoded samples.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from csm.v1 import tts_pb2

from services.common.outcomes import retrieve_exception
from services.gateway.audio.recording import Recording
from services.gateway.budgets.admission_queue import AdmissionQueue
from services.gateway.budgets.arrivals import BUSY, Arrivals
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.recordings import encoding_of_file, most_decoded_bytes, read_recording
from services.gateway.requests.violations import Violations
from services.gateway.settings import GatewaySettings
from services.gateway.synthesis.deadline import Deadline
from services.gateway.voices.prompts import BrokenPromptError

T = TypeVar("T")


class RecordingBudget:
    """Limits the gateway's memory for recordings, over all calls and methods."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._max_seconds = settings.max_recording_seconds
        self.arrivals = Arrivals(
            settings.max_large_requests,
            settings.max_waiting_recordings,
            metrics.refused_recordings.labels("arriving").inc,
        )
        self.decoded = AdmissionQueue(
            settings.max_recording_bytes,
            settings.max_waiting_recordings,
            BUSY,
            "bytes of recordings are being decoded",
            metrics.refused_recordings.labels("waiting").inc,
        )
        metrics.large_requests.set_function(lambda: self.arrivals.num_large)
        metrics.recording_bytes.set_function(lambda: self.decoded.taken)
        metrics.waiting_recordings.set_function(lambda: self.decoded.num_waiting)

    @asynccontextmanager
    async def decode_prompt(self, file: bytes, timeout_s: float) -> AsyncIterator[Recording]:
        """The samples of a prompt from a file, checked like a caller's recording.

        Raises BrokenPromptError, StatusError RESOURCE_EXHAUSTED.
        """
        if (encoding := encoding_of_file(file)) is None:
            raise BrokenPromptError("its recording is no WAV, Ogg Opus, MP3, AAC or FLAC file.")
        given = tts_pb2.AudioRecording(audio_content=file, audio_format=tts_pb2.AudioFormat(audio_encoding=encoding))
        violations, longest_s = Violations(), self._max_seconds
        most = most_decoded_bytes([given], longest_s)
        async with self.decoded.take(Deadline(time.monotonic() + timeout_s), most) as taken:
            read = await decoded_in_thread(lambda: read_recording("", given, violations, longest_s, longest_s))
            if read is None:
                (violation,) = violations.found
                part = violation.field.rpartition(".")[2]
                whose = "its recording" if part == "audio_content" else f"its recording's {part}"
                raise BrokenPromptError(f"{whose} {violation.description}")
            taken.shrink(len(read.samples))
            yield read


async def decoded_in_thread(decode: Callable[[], T]) -> T:
    """Runs `decode` in a thread, for it takes too long for the event loop.

    A thread cannot be cancelled. A cancelled caller waits for its end, so that its memory stays counted until then.
    """
    decoding = asyncio.ensure_future(asyncio.to_thread(decode))
    decoding.add_done_callback(retrieve_exception)
    try:
        return await asyncio.shield(decoding)
    finally:
        while not decoding.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({decoding})
