"""A fake engine and a fake codec that follow a test's script. They have no model.

Every code of a frame from the fake engine, and every sample that the fake codec makes of it, is the frame's number.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.engine.v1 import engine_pb2, engine_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from services.common.rpc.calls import Context
from services.common.rpc.status import StatusError

CODEBOOKS = 32
FRAME_SAMPLES = 1920
SAMPLE_RATE_HZ = 24_000
NOTICE = "This model is untrained: it sounds like noise."


def fake_identity() -> rvq_pb2.CodecIdentity:
    return rvq_pb2.CodecIdentity(
        name="fake",
        weights_digest="f0",
        codebook_count=CODEBOOKS,
        codebook_size=2048,
        frame_sample_count=FRAME_SAMPLES,
        sample_rate_hertz=SAMPLE_RATE_HZ,
    )


def fake_frames(first: int, count: int) -> rvq_pb2.CodeFrames:
    """Frames whose codes all equal the frame's number."""
    values = [index % 2048 for index in range(first, first + count) for _ in range(CODEBOOKS)]
    codes = struct.pack(f"<{len(values)}H", *values)
    return rvq_pb2.CodeFrames(first_frame_index=first, frame_count=count, codebook_count=CODEBOOKS, codes=codes)


def numbered_audio(frames: range) -> bytes:
    """16-bit samples that all equal the number of their frame."""
    return b"".join(struct.pack("<h", number) * FRAME_SAMPLES for number in frames)


@dataclass
class CallRecord:
    """What a fake saw of one call."""

    request: Any = None
    metadata: dict[str, str] = field(default_factory=dict)
    peer: str = ""  # address of the caller's connection
    remaining_s: float | None = None  # until the call's deadline, when it arrived
    frame_count: int = 0  # engine: frames sent, and those it was resumed from; codec: frames received
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: str = ""  # type of the exception that ended the call: CancelledError for a lost caller; "" for a regular end


@dataclass
class Script:
    """Pauses or fails a fake's call before it reaches a frame. Frame 0 is the first."""

    pause_at: int | None = None
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    fail_at: int | None = None
    failure: Exception = field(default_factory=lambda: RuntimeError("scripted"))

    async def reach(self, frame: int) -> None:
        if self.pause_at is not None and frame >= self.pause_at:
            self.paused.set()
            await self.resume.wait()
        if self.fail_at is not None and frame >= self.fail_at:
            raise self.failure


class FakeEngine(engine_pb2_grpc.EngineServiceServicer):
    """Makes `frame_count` frames for any request, up to the request's own limit."""

    def __init__(self) -> None:
        self.frame_count = 10
        self.prompt_token_count = 12
        self.dropped_segment_count = 0
        self.end_reason = engine_pb2.FINISH_REASON_END_OF_SPEECH
        self.script = Script()
        self.may_start = asyncio.Event()  # while it is clear, calls wait before the sequence starts
        self.may_start.set()
        self.refusal: Exception | None = None  # raised before the sequence starts
        self.frame_counts: list[int] = []  # of the next calls, in place of `frame_count`
        self.refusals: list[Exception | None] = []  # of the next calls, in place of `refusal`
        self.calls: list[CallRecord] = []
        self.voice_prompts: dict[str, engine_pb2.GetVoicePromptResponse] = {}
        self.info = engine_pb2.GetModelInfoResponse(
            model_version="fake/1",
            context_window_size=2048,
            codec=fake_identity(),
            voices=[
                engine_pb2.Voice(name="ada", speaker_id=0, language_codes=["en"], description="the first"),
                engine_pb2.Voice(name="bo", speaker_id=1, language_codes=["en", "de"]),
            ],
            notice=NOTICE,
        )

    async def Generate(self, request: engine_pb2.GenerateRequest, context: Context) -> None:
        async with _recorded(self.calls, request, context) as call:
            if (refusal := self.refusals.pop(0) if self.refusals else self.refusal) is not None:
                raise refusal
            await self.may_start.wait()
            frame_count = self.frame_counts.pop(0) if self.frame_counts else self.frame_count
            await context.write(
                engine_pb2.GenerateResponse(
                    started=engine_pb2.GenerateStarted(
                        prompt_token_count=self.prompt_token_count,
                        text_token_count=5,
                        dropped_segment_count=self.dropped_segment_count,
                        weights_digest=self.info.weights_digest,
                    )
                )
            )
            call.frame_count = request.resume_frames.frame_count
            assert request.resume_frames.codes == fake_frames(0, call.frame_count).codes
            total = min(frame_count, request.max_frame_count)
            size = request.first_batch_frame_count or 1
            while call.frame_count < total:
                await self.script.reach(call.frame_count)
                frames = fake_frames(call.frame_count, min(size, total - call.frame_count))
                await context.write(engine_pb2.GenerateResponse(frames=frames))
                call.frame_count += frames.frame_count
                size = request.max_batch_frame_count or 4
            await self.script.reach(call.frame_count)
            reached_cap = frame_count >= request.max_frame_count
            reason = engine_pb2.FINISH_REASON_MAX_FRAMES if reached_cap else self.end_reason
            complete = engine_pb2.GenerateComplete(finish_reason=reason, frame_count=total)
            await context.write(engine_pb2.GenerateResponse(complete=complete))

    async def GetVoicePrompt(
        self, request: engine_pb2.GetVoicePromptRequest, context: Context
    ) -> engine_pb2.GetVoicePromptResponse:
        return self.voice_prompts[request.name]

    async def GetModelInfo(
        self, request: engine_pb2.GetModelInfoRequest, context: Context
    ) -> engine_pb2.GetModelInfoResponse:
        return self.info


class FakeCodec(codec_pb2_grpc.CodecServiceServicer):
    """Decodes frames by `audio_of`. Holds back `info.latency_sample_count` samples until the caller's half-close."""

    def __init__(self) -> None:
        self.audio_of: Callable[[range], bytes] = numbered_audio  # frames to 16-bit samples, 1,920 each
        self.script = Script()
        self.calls: list[CallRecord] = []
        self.refusal: Exception | None = None  # raised for recordings
        self.refusals: list[Exception | None] = []  # raised for the next streams
        self.sends_started = True  # whatever `info.sends_started` announces
        self.slots = asyncio.Semaphore(1000)  # of streams, which wait for one
        self.sends_checkpoints = True
        self.checkpoint_lag = 0  # samples from a checkpoint to the end of its frame
        self.coverages: list[codec_pb2.WatermarkCoverage] = []  # reported by the next streams, then FULL
        self.search_script = Script()  # reached by StreamDetectWatermark before its answer
        self.searches: list[CallRecord] = []
        self.encoded: list[codec_pb2.EncodeRequest] = []
        self.levels = codec_pb2.RecordingLevels(speech_level_db=-20)  # reported for recordings
        self.detected: list[codec_pb2.DetectWatermarkRequest] = []
        self.detection = codec_pb2.DetectWatermarkResponse(detected=True, confidence=0.75, key_id="key-1")
        self.info = codec_pb2.GetCodecInfoResponse(
            codec=fake_identity(),
            watermark_scheme="fake/1",
            active_key_id="key-1",
            key_ids=["key-1"],
            sends_started=True,
            stretch_sample_count=FRAME_SAMPLES,
        )

    async def StreamDecode(self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], context: Context) -> None:
        async with _recorded(self.calls, None, context) as call:
            call.request = (await anext(requests)).config
            if call.request.codec != self.info.codec:
                raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH", "The codes are of another.")
            if (refusal := self.refusals.pop(0) if self.refusals else None) is not None:
                raise refusal
            async with self.slots:
                await self._stream(requests, context, call)

    async def _stream(
        self, requests: AsyncIterator[codec_pb2.StreamDecodeRequest], context: Context, call: CallRecord
    ) -> None:
        start = codec_pb2.StreamDecodeStarted()
        if self.sends_checkpoints:
            start.MergeFromString(call.request.checkpoint)  # a checkpoint's state is such a message
        call.frame_count = start.first_frame_index
        if self.sends_started:
            await context.write(codec_pb2.StreamDecodeResponse(started=start))
        held, sent = bytearray(), start.sample_offset
        bytes_to_skip = 2 * (start.sample_offset - FRAME_SAMPLES * start.first_frame_index)
        async for request in requests:
            held += await self._decode(request.frames, call)
            bytes_to_skip -= (skipped := min(bytes_to_skip, len(held)))
            del held[:skipped]
            ready = max(0, len(held) // 2 - self.info.latency_sample_count)
            sent = await _send_audio(context, held, sent, ready, self._checkpoint(call))
        sent = await _send_audio(context, held, sent, len(held) // 2, None)
        complete = codec_pb2.StreamDecodeComplete(
            frame_count=call.frame_count,
            sample_count=sent,
            watermark=codec_pb2.WatermarkResult(
                coverage=self.coverages.pop(0) if self.coverages else codec_pb2.WATERMARK_COVERAGE_FULL,
                scheme="fake/1",
                key_id="key-1",
            ),
            resume=call.request.resume + b"." if self.sends_started else b"",
        )
        await context.write(codec_pb2.StreamDecodeResponse(complete=complete))

    def _checkpoint(self, call: CallRecord) -> codec_pb2.StreamDecodeCheckpoint | None:
        """A checkpoint after the last frame so far. Decoding from it needs the three frames before it again."""
        if not self.sends_checkpoints or not call.request.checkpoint_frame_count:
            return None
        first, offset = max(0, call.frame_count - 3), FRAME_SAMPLES * call.frame_count - self.checkpoint_lag
        state = codec_pb2.StreamDecodeStarted(first_frame_index=first, sample_offset=offset).SerializeToString()
        return codec_pb2.StreamDecodeCheckpoint(state=state, first_frame_index=first, sample_offset=offset)

    async def _decode(self, frames: rvq_pb2.CodeFrames, call: CallRecord) -> bytes:
        await self.script.reach(call.frame_count)
        assert frames.first_frame_index == call.frame_count
        call.frame_count += frames.frame_count
        return self.audio_of(range(frames.first_frame_index, call.frame_count))

    async def StreamEncode(self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], context: Context) -> None:
        started = codec_pb2.StreamEncodeResponse(started=codec_pb2.StreamEncodeStarted())
        fields = await self._receive(requests, context, started)
        complete = await self.encode(codec_pb2.EncodeRequest(**fields))
        await context.write(codec_pb2.StreamEncodeResponse(complete=complete))

    async def encode(self, recording: codec_pb2.EncodeRequest) -> codec_pb2.EncodeResponse:
        """Answers a whole recording."""
        self.encoded.append(recording)
        levels = self.levels if recording.measure else None
        return codec_pb2.EncodeResponse(codes=fake_frames(0, 3), codec=self.info.codec, levels=levels)

    async def StreamDetectWatermark(
        self, requests: AsyncIterator[codec_pb2.StreamDetectWatermarkRequest], context: Context
    ) -> None:
        """Answers with `detection`. Keeps the recording as one request in `detected`."""
        started = codec_pb2.StreamDetectWatermarkResponse(started=codec_pb2.StreamDetectWatermarkStarted())
        async with _recorded(self.searches, None, context):
            self.detected.append(codec_pb2.DetectWatermarkRequest(**await self._receive(requests, context, started)))
            await self.search_script.reach(0)
            await context.write(codec_pb2.StreamDetectWatermarkResponse(complete=self.detection))

    async def _receive(self, requests: AsyncIterator[Any], context: Context, started: Any) -> dict[str, Any]:
        """Receives a recording in pieces. Returns the fields of its config, and all samples."""
        config = (await anext(requests)).config
        if self.refusal is not None:
            raise self.refusal
        await context.write(started)
        samples = b"".join([request.samples async for request in requests])
        return {field.name: value for field, value in config.ListFields()} | {"samples": samples}

    async def GetCodecInfo(
        self, request: codec_pb2.GetCodecInfoRequest, context: Context
    ) -> codec_pb2.GetCodecInfoResponse:
        return self.info


async def _send_audio(
    context: Context, held: bytearray, sent: int, count: int, checkpoint: codec_pb2.StreamDecodeCheckpoint | None
) -> int:
    """Sends the first `count` samples of `held`. Returns the number of samples sent so far."""
    if count:
        samples = codec_pb2.AudioSamples(samples=bytes(held[: 2 * count]), sample_offset=sent, sample_count=count)
        if checkpoint is not None:
            samples.checkpoint.CopyFrom(checkpoint)
        await context.write(codec_pb2.StreamDecodeResponse(audio=samples))
        del held[: 2 * count]
    return sent + count


@asynccontextmanager
async def _recorded(calls: list[CallRecord], request: Any, context: Context) -> AsyncIterator[CallRecord]:
    metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
    call = CallRecord(request, metadata, str(context.peer()), context.time_remaining())
    calls.append(call)
    try:
        yield call
    except grpc.aio.InternalError:  # the caller was lost during a write
        call.error = asyncio.CancelledError.__name__
        raise
    except BaseException as error:
        call.error = type(error).__name__
        raise
    finally:
        call.ended.set()
