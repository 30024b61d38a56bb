"""csm.engine.v1.EngineService over AsyncEngine: one call is one sequence, a cancelled call frees its slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from csm_bundle.errors import EngineBusyError, EngineFaultError, InvalidRequestError
from csm_bundle.voice_folder import FolderVoice
from csm_engine.loop.engine import Output
from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import FinishReason, GenerationRequest
from services.common import values
from services.common.coalesce import Coalescer
from services.common.outcomes import close_opened
from services.common.rpc import load_report
from services.common.rpc.status import Resource, StatusError
from services.common.telemetry import logs, spans
from services.engine import convert
from services.engine.async_engine import AsyncEngine, SequenceStream
from services.engine.metrics import EngineMetrics
from services.engine.spoken_text import SpokenText

Context = grpc.aio.ServicerContext[Any, Any]

_PROGRESS = engine_pb2.GenerateResponse(progress=engine_pb2.GenerateProgress())
_PROGRESS_S = 1.0  # between two progress messages while texts wait to be read


class EngineServicer(engine_pb2_grpc.EngineServiceServicer):
    """Streams frames as the engine makes them."""

    def __init__(
        self,
        async_engine: AsyncEngine,
        info: engine_pb2.GetModelInfoResponse,
        metrics: EngineMetrics,
        *,
        spoken_text: SpokenText,
        prompted_voices: Iterable[FolderVoice],
        max_batch_frames: int,
    ) -> None:
        self._async_engine = async_engine
        self._spoken_text = spoken_text
        self._prompted_voices = {voice.name: voice for voice in prompted_voices if voice.digest}
        self._info = info
        self._metrics = metrics
        self._max_batch_frames = max_batch_frames

    async def Generate(self, request: engine_pb2.GenerateRequest, context: Context) -> None:
        self._check_codec(request.codec)
        generation = convert.to_request(request, self._info.codec.codebook_count)
        try:
            stream = await self._open(generation, context)
        except InvalidRequestError as error:
            raise convert.in_api_terms(error) from None
        except EngineBusyError:
            context.set_trailing_metadata(self._load_report())
            raise
        sequence = stream.sequence
        context.add_done_callback(lambda _: stream.close())  # type: ignore[arg-type]
        try:
            await self._stream(request, stream, sequence, context)
        finally:
            stream.close()
            self._metrics.observe_end(sequence)
            logs.annotate(frames=sequence.num_frames, prompt_tokens=len(sequence.prompt), reused_tokens=sequence.reused)

    async def _open(self, request: GenerationRequest, context: Context) -> SequenceStream:
        """Opens the stream, and sends progress while the texts wait to be read or are read. That may take longer than
        the silence after which a gateway takes an engine for lost.

        Progress follows the engine's thread, so a gateway still notices when that thread hangs.
        """
        opening = asyncio.ensure_future(self._async_engine.open(request, self._spoken_text.of_a_request()))
        try:
            while not (await asyncio.wait({opening}, timeout=_PROGRESS_S))[0]:
                if self._async_engine.watchdog.worker_is_alive:
                    await context.write(_PROGRESS)
        except BaseException:
            opening.add_done_callback(close_opened)
            opening.cancel()
            raise
        return opening.result()

    async def _stream(
        self, request: engine_pb2.GenerateRequest, stream: SequenceStream, sequence: Sequence, context: Context
    ) -> None:
        while not await stream.next():
            await context.write(_PROGRESS)
        spans.event("admitted")
        await context.write(engine_pb2.GenerateResponse(started=convert.started(sequence, self._info.weights_digest)))
        coalescer = Coalescer(
            first=request.first_batch_frame_count or 1,
            most=request.max_batch_frame_count or self._max_batch_frames,
            frame_s=FRAME_SECONDS,
            speed=request.speed or 1.0,
        )
        sent = sequence.resumed_frames
        batch: list[Output] = []
        while not batch or batch[-1].finish_reason is None:
            batch = await stream.next(coalescer.next_count(time.monotonic()), coalescer.limit)
            if frames := [output.frame for output in batch if output.frame is not None]:
                if sent == sequence.resumed_frames:
                    spans.event("first frames")
                await context.write(engine_pb2.GenerateResponse(frames=convert.from_frames(sent, frames)))
                sent += len(frames)
                coalescer.sent(len(frames), time.monotonic())
            elif not batch:
                await context.write(_PROGRESS)
        if batch[-1].finish_reason is FinishReason.INVALID_FRAME:
            context.set_trailing_metadata(load_report.of_faulty())
            raise EngineFaultError("The engine computed an invalid frame.")
        await context.write(engine_pb2.GenerateResponse(complete=convert.complete(sequence)))
        context.set_trailing_metadata(self._load_report())

    async def GetVoicePrompt(
        self, request: engine_pb2.GetVoicePromptRequest, context: Context
    ) -> engine_pb2.GetVoicePromptResponse:
        voice = self._prompted_voices.get(request.name)
        if voice is None:
            raise StatusError(
                grpc.StatusCode.NOT_FOUND,
                "VOICE_NOT_FOUND",
                f"The bundle has no voice '{request.name}' with a prompt.",
                resource=Resource("voice", request.name),
            )
        answer = engine_pb2.GetVoicePromptResponse(text=voice.text, prompt_digest=voice.digest)
        if voice.codes:
            answer.codes.CopyFrom(rvq_pb2.CodeFrames.FromString(voice.codes))
        else:
            answer.recording = voice.recording
        return answer

    async def GetModelInfo(
        self, request: engine_pb2.GetModelInfoRequest, context: Context
    ) -> engine_pb2.GetModelInfoResponse:
        return self._info

    async def GetLoad(self, request: engine_pb2.GetLoadRequest, context: Context) -> engine_pb2.GetLoadResponse:
        running, waiting = self._async_engine.thread.load()
        silence = self._async_engine.thread.silence()
        return engine_pb2.GetLoadResponse(
            running_sequence_count=running,
            waiting_sequence_count=waiting,
            cache_usage_ratio=self._async_engine.engine.cache_usage,
            frame_rate=self._async_engine.frame_rate(),
            silence_duration=None if silence is None else values.seconds(silence),
        )

    def _load_report(self) -> tuple[tuple[str, bytes]]:
        return load_report.as_metadata(sum(self._async_engine.thread.load()), self._info.max_running_sequence_count)

    def _check_codec(self, theirs: rvq_pb2.CodecIdentity) -> None:
        """Raises StatusError unless the caller's codec is the model's. Unset fields of either are not compared."""
        for field, value in theirs.ListFields():
            ours = getattr(self._info.codec, field.name)
            if ours and ours != value:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "CODEC_MISMATCH",
                    f"The model speaks a codec whose {field.name} is {ours}; the caller's is {value}.",
                )
