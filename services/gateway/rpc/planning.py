"""Receives the request of a synthesis, and turns it into a plan with codes in place of recordings. All synthesis RPCs
share it.

Recordings are in memory from the arrival of their request until they are encoded. Over all calls the number of large
requests is limited, and so are the bytes of decoded samples. A running stream holds codes only.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from csm.v1 import tts_pb2

from services.common.outcomes import retrieve_exception
from services.common.rpc.calls import caller_name, is_uuid
from services.common.rpc.lingering import IncomingMessages
from services.common.rpc.status import StatusError
from services.common.telemetry import logs
from services.gateway.audio.recording import Recording
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.recordings import encoding_of_file, most_decoded_bytes, read_recording
from services.gateway.requests.validation import Request, asked_speaker, plan_synthesis
from services.gateway.requests.violations import Violations
from services.gateway.rpc.arrivals import BUSY, Arrivals, one
from services.gateway.rpc.instrumented_run import counted, instrumented
from services.gateway.rpc.turns import Turns
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import Encodes
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_codes import put_codes
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import ContextTurn, SynthesisPlan
from services.gateway.synthesis.texts.sentences import BLOCK
from services.gateway.synthesis.texts.text_synthesis import in_text_terms
from services.gateway.voices.directory import VoiceDirectory
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
        self.decoded = Turns(
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


class Planner:
    """Turns requests into plans."""

    def __init__(
        self,
        settings: GatewaySettings,
        codec: Encodes,
        catalogs: CatalogSource,
        voices: VoiceDirectory,
        metrics: GatewayMetrics,
        seal: CodeSeal | None,
        budget: RecordingBudget,
    ) -> None:
        """seal: with --code-sealing=sealed"""
        self._settings, self._codec, self._catalogs, self._voices = settings, codec, catalogs, voices
        self._metrics, self._seal, self._budget = metrics, seal, budget

    async def plan(
        self,
        requests: IncomingMessages,
        deadline: Deadline,
        announced_bytes: int,
        read: Callable[[IncomingMessages], Coroutine[Any, Any, Any]] = one,
        *,
        words_follow: bool = False,
    ) -> tuple[SynthesisPlan, Catalog]:
        """requests, announced_bytes, read: see Arrivals.receive. words_follow: the request is a StreamSynthesizeText
        config.

        Raises StatusError, also RESOURCE_EXHAUSTED when memory for recordings is short, and StageError of the codec.
        """
        arrived_at_s = time.monotonic()
        with self._catalogs.forgotten_if_wrong():
            async with AsyncExitStack() as budget:
                with counted(self._metrics, lambda: "request"):
                    async with self._budget.arrivals.receive(requests, deadline, announced_bytes, read) as request:
                        plan, catalog = await self._decoded(request, deadline, budget, words_follow=words_follow)
                        del request  # frees the recordings as they were sent
                plan = replace(plan, arrived_at_s=arrived_at_s)
                turns = list(plan.turns)
                if any(each.recording is not None for each in turns):
                    plan = replace(plan, turns=())  # so that only the list refers to the samples
                    await self._encode(turns, catalog, deadline, words_follow=words_follow)
                    plan = replace(plan, turns=tuple(turns))
        return plan, catalog

    async def _decoded(
        self, request: Request, deadline: Deadline, budget: AsyncExitStack, *, words_follow: bool
    ) -> tuple[SynthesisPlan, Catalog]:
        """budget: counts the decoded samples until it is closed"""
        if is_uuid(request.request_id):
            logs.request_id.set(request.request_id)
        deadline.require(self._settings.min_first_audio_seconds)
        catalog = await self._catalogs.get(deadline.remaining_s)
        caller, speaker = caller_name.get(), asked_speaker(request)
        try:
            voice = await self._voices.choose(request.voice, speaker, catalog, caller, deadline.remaining_s)
        except StatusError as error:
            if words_follow:
                error.field_violations = tuple(
                    replace(each, field=f"config.{each.field}") for each in error.field_violations
                )
            raise
        make_plan = partial(
            plan_synthesis,
            *(request, logs.request_id.get(), catalog, self._settings, self._seal, voice),
            caller=caller,
            words_follow=words_follow,
        )
        recordings = [each.audio.recording for each in request.context.turns if each.audio.HasField("recording")]
        if recordings:
            most = most_decoded_bytes(recordings, self._settings.max_context_audio_seconds)
            taken = await budget.enter_async_context(self._budget.decoded.take(deadline, most))
            plan = await decoded_in_thread(make_plan)
            taken.shrink(sum(len(each.recording.samples) for each in plan.turns if each.recording is not None))
        elif len(request.input.text) > BLOCK:  # cutting it into sentences may take long
            plan = await decoded_in_thread(make_plan)
        else:
            plan = make_plan()
        if plan.conversation:
            logs.annotate(conversation=plan.conversation)
        if request.labels:  # plan_synthesis has limited their number and length
            logs.annotate(labels=json.dumps(dict(request.labels)))
        return plan, catalog

    async def _encode(
        self, turns: list[ContextTurn], catalog: Catalog, deadline: Deadline, *, words_follow: bool
    ) -> None:
        async with instrumented(self._metrics, deadline, lambda: "context"):
            try:
                await put_codes(turns, self._codec, catalog.identity, deadline)
            except StageError as error:
                raise (in_text_terms(error) if words_follow else error) from None
