"""csm.codec.v1.CodecService: decode streams over AsyncCodec, whole recordings over the recording worker."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import numpy as np
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from csm_bundle.errors import CodecBusyError, CodecError, InvalidRequestError, WatermarkError
from csm_codec.resample import Pcm, StreamResampler
from csm_codec.stream import Audio, Checkpoint, Complete, DecodeOptions
from csm_codec.stretch import FASTEST, SLOWEST, held_samples
from csm_codec.watermark.stream.coverage import Coverage
from services.codec import convert, resume
from services.codec.async_codec import AsyncCodec, Opening, StreamHandle
from services.codec.load import LoadedCodec
from services.codec.recordings.detection import WatermarkSearch, named_key
from services.codec.recordings.encoding import RecordingEncoder
from services.common import values
from services.common.coalesce import Coalescer
from services.common.outcomes import close_opened
from services.common.rpc import load_report
from services.common.rpc.incoming.lingering import set_caller_waits
from services.common.rpc.status import StatusError
from services.common.telemetry import logs, spans
from services.common.watchdog import BEAT_S

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[codec_pb2.StreamDecodeRequest]

_PROGRESS = codec_pb2.StreamDecodeResponse(progress=codec_pb2.StreamDecodeProgress())
_MIN_RATE_HZ, _MAX_RATE_HZ = 8000, 48_000
CONFIG_SECONDS = 30.0  # longest wait for the first message


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """The servicer. All audio that it returns is watermarked."""

    def __init__(
        self,
        loaded: LoadedCodec,
        async_codec: AsyncCodec,
        encoder: RecordingEncoder,
        search: WatermarkSearch,
        *,
        max_recording_seconds: float,
        require_full_watermark: bool,
        max_batch_frames: int,
    ) -> None:
        self._loaded, self._async_codec, self._encoder, self._search = loaded, async_codec, encoder, search
        self._max_recording_seconds = max_recording_seconds
        self._require_full_watermark = require_full_watermark
        self._max_batch_frames = max_batch_frames
        self._identity = loaded.mimi.identity

    async def StreamDecode(self, requests: Requests, context: Context) -> None:
        config = await self._read_config(requests)
        key_id = named_key(self._loaded.keyring, config.watermark_key_id).id
        before = resume.from_bytes(config.resume, self._loaded.resume_digest, key_id)
        point = resume.point_from_bytes(config.checkpoint, self._loaded.resume_digest, key_id)
        native_hz = self._identity.sample_rate_hertz
        if config.sample_rate_hertz in (0, native_hz):
            checkpoint_frames = config.checkpoint_frame_count
        elif point is None:
            checkpoint_frames = 0
        else:
            raise InvalidRequestError(
                "config.checkpoint", f"can be continued only at the codec's own sample rate, {native_hz} Hz"
            )
        options = DecodeOptions(key_id, before, point, checkpoint_frames, config.speed or 1.0)
        opening = Opening()
        waiting = self._async_codec.open(options, has_listener=config.has_listener, opening=opening)
        try:
            handle = await self._opened(waiting, opening, context)
        except CodecBusyError:
            self._report_load(context)
            raise
        set_caller_waits(requests, False)
        context.add_done_callback(lambda _: handle.close())  # type: ignore[arg-type]
        reader = asyncio.create_task(self._read_frames(requests, handle))
        try:
            start = handle.stream.start
            started = codec_pb2.StreamDecodeStarted(
                first_frame_index=start.first_frame, sample_offset=start.first_sample
            )
            await context.write(codec_pb2.StreamDecodeResponse(started=started))
            await self._write_audio(config, handle, context)
            self._report_load(context)
        except CodecError as error:
            if type(error) is CodecError:  # its kinds are no faults
                context.set_trailing_metadata(load_report.of_faulty())
            raise
        finally:
            reader.cancel()
            handle.close()
            logs.annotate(frames=handle.stream.num_frames, samples=handle.stream.num_samples)

    def _report_load(self, context: Context) -> None:
        admission = self._async_codec.admission
        context.set_trailing_metadata(load_report.as_metadata(admission.num_calls, admission.num_slots))

    async def _opened(
        self, waiting: Coroutine[Any, Any, StreamHandle], opening: Opening, context: Context
    ) -> StreamHandle:
        """Waits for a slot, and sends progress messages meanwhile."""
        task = asyncio.create_task(waiting)
        try:
            while not (await asyncio.wait({task}, timeout=2 * BEAT_S))[0]:
                if self._async_codec.is_alive(opening):
                    await context.write(_PROGRESS)
            return task.result()
        except BaseException as error:
            task.cancel()
            task.add_done_callback(close_opened)
            if isinstance(error, InvalidRequestError):  # about the checkpoint
                raise InvalidRequestError(f"config.{error.field}", error.message) from None
            raise

    async def Encode(self, request: codec_pb2.EncodeRequest, context: Context) -> codec_pb2.EncodeResponse:
        pcm = self._to_recording(request)
        return await self._encoder.encode(pcm, request.sample_rate_hertz, measured=request.measure)

    async def StreamEncode(self, requests: AsyncIterator[codec_pb2.StreamEncodeRequest], context: Context) -> None:
        await self._encoder.stream(requests, context)

    async def DetectWatermark(
        self, request: codec_pb2.DetectWatermarkRequest, context: Context
    ) -> codec_pb2.DetectWatermarkResponse:
        pcm = self._to_recording(request)
        return await self._search.search(pcm, request.sample_rate_hertz, request.key_ids)

    async def StreamDetectWatermark(
        self, requests: AsyncIterator[codec_pb2.StreamDetectWatermarkRequest], context: Context
    ) -> None:
        await self._search.stream(requests, context)

    async def GetCodecInfo(
        self, request: codec_pb2.GetCodecInfoRequest, context: Context
    ) -> codec_pb2.GetCodecInfoResponse:
        loaded, keyring = self._loaded, self._loaded.keyring.current
        return codec_pb2.GetCodecInfoResponse(
            codec=values.from_identity(self._identity),
            watermark_scheme=loaded.silentcipher.scheme,
            latency_sample_count=loaded.latency_samples,
            active_key_id=keyring.active.id,
            key_ids=list(keyring.keys),
            notice=loaded.bundle.notice,
            sends_started=True,
            stretch_sample_count=held_samples(self._identity.sample_rate_hertz),
        )

    async def _read_config(self, requests: Requests) -> codec_pb2.StreamDecodeConfig:
        try:
            async with asyncio.timeout(CONFIG_SECONDS):
                first = await anext(requests, None)
        except TimeoutError:
            why = f"No config has come for {CONFIG_SECONDS:g} s."
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "CONFIG_STALLED", why) from None
        if first is None or first.WhichOneof("request") != "config":
            raise InvalidRequestError("config", "is missing; it must be the first message")
        config = first.config
        set_caller_waits(requests, config.awaits_started)
        self._check_codec(config.codec)
        convert.check_format(config.sample_format)
        if config.checkpoint_frame_count < 0:
            raise InvalidRequestError(
                "config.checkpoint_frame_count", f"is {config.checkpoint_frame_count}; it must not be negative"
            )
        rate_hz = config.sample_rate_hertz
        if rate_hz and not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
            raise InvalidRequestError(
                "config.sample_rate_hertz", f"is {rate_hz}; allowed are 0 and {_MIN_RATE_HZ}..{_MAX_RATE_HZ}"
            )
        if config.speed and not SLOWEST <= config.speed <= FASTEST:  # false for NaN too
            raise InvalidRequestError(
                "config.speed", f"is {config.speed:g}; allowed are 0 and {SLOWEST:g}..{FASTEST:g}"
            )
        return config

    async def _read_frames(self, requests: Requests, handle: StreamHandle) -> None:
        """Feeds the stream until the caller half-closes. A failure ends `handle.take`, and so the call."""
        next_frame_index = handle.stream.start.first_frame
        try:
            async for request in requests:
                if request.WhichOneof("request") != "frames":
                    raise InvalidRequestError("request", "must be frames after the first message")
                codes = convert.to_codes(request.frames, next_frame_index, self._identity)
                next_frame_index += len(codes)
                await handle.push(codes)
            self._check_end(next_frame_index, handle)
        except Exception as error:
            handle.fail(error)
        else:
            handle.finish()

    def _check_end(self, num_frames: int, handle: StreamHandle) -> None:
        """Refuses frames that end before the checkpoint that the stream resumes from."""
        given, needed = num_frames * self._identity.frame_sample_count, handle.stream.start.first_sample
        if given < needed:
            raise InvalidRequestError(
                "frames",
                f"give {given} samples; at least {needed} are needed, as many as the checkpoint's stream had sent",
            )

    async def _write_audio(self, config: codec_pb2.StreamDecodeConfig, handle: StreamHandle, context: Context) -> None:
        native_hz = self._identity.sample_rate_hertz
        rate_hz = config.sample_rate_hertz or native_hz
        resampler = StreamResampler(native_hz, rate_hz)
        frame_s = self._identity.frame_sample_count / native_hz / (config.speed or 1.0)  # of the audio that is sent
        coalescer = Coalescer(first=1, most=self._max_batch_frames, frame_s=frame_s)
        sent, complete = handle.stream.start.first_sample, None
        checkpoints: deque[Checkpoint] = deque()  # not sent yet
        while complete is None:
            outputs = await handle.take(coalescer.next_count(time.monotonic()))
            complete = next((output for output in outputs if isinstance(output, Complete)), None)
            if complete is not None:
                self._check_coverage(complete, config)
            heard = [output for output in outputs if isinstance(output, Audio)]
            checkpoints.extend(output.checkpoint for output in heard if output.checkpoint is not None)
            new = np.concatenate((*(output.pcm for output in heard), np.zeros(0, np.float32)))
            pcm: Pcm = resampler.push(new, last=complete is not None)
            if len(pcm):
                samples = convert.from_pcm(pcm, config.sample_format)
                audio = codec_pb2.AudioSamples(samples=samples, sample_offset=sent, sample_count=len(pcm))
                checkpoint: Checkpoint | None = None  # the newest at which another call can go on after this message
                while checkpoints and checkpoints[0].start.first_sample <= sent + len(pcm):
                    checkpoint = checkpoints.popleft()
                if checkpoint is not None:
                    audio.checkpoint.CopyFrom(self._checkpoint(checkpoint, handle.stream.key_id))
                if sent == handle.stream.start.first_sample:
                    spans.event("first audio")
                await context.write(codec_pb2.StreamDecodeResponse(audio=audio))
                sent += len(pcm)
                # Not the frames taken, for the watermark holds some back, and of others only the latents are computed.
                coalescer.sent(len(pcm) / (rate_hz * frame_s), time.monotonic())
            elif complete is None:  # no samples yet: progress shows the caller that the codec is alive
                await context.write(_PROGRESS)
        await context.write(codec_pb2.StreamDecodeResponse(complete=self._complete(complete, sent)))

    def _check_coverage(self, complete: Complete, config: codec_pb2.StreamDecodeConfig) -> None:
        """Fails the call if a full watermark is required and missing. Audio already sent must then not be used."""
        is_required = self._require_full_watermark and not config.clip_continues
        if is_required and complete.coverage is not Coverage.FULL:
            raise WatermarkError(
                "The audio is too short or too quiet to carry one whole watermark message, which this server requires."
            )

    def _complete(self, complete: Complete, sample_count: int) -> codec_pb2.StreamDecodeComplete:
        stream = complete.stream
        return codec_pb2.StreamDecodeComplete(
            frame_count=stream.num_frames,
            sample_count=sample_count,
            watermark=codec_pb2.WatermarkResult(
                coverage=convert.from_coverage(complete.coverage),
                scheme=self._loaded.silentcipher.scheme,
                key_id=stream.key_id,
            ),
            decode_duration=values.seconds(stream.decode_s),
            watermark_duration=values.seconds(stream.watermark_s),
            resume=resume.to_bytes(complete.progress, self._loaded.resume_digest, stream.key_id),
        )

    def _checkpoint(self, checkpoint: Checkpoint, key_id: str) -> codec_pb2.StreamDecodeCheckpoint:
        return codec_pb2.StreamDecodeCheckpoint(
            state=resume.point_to_bytes(checkpoint.point, self._loaded.resume_digest, key_id),
            first_frame_index=checkpoint.start.first_frame,
            sample_offset=checkpoint.start.first_sample,
        )

    def _to_recording(self, request: codec_pb2.EncodeRequest | codec_pb2.DetectWatermarkRequest) -> Pcm:
        pcm = convert.to_pcm(request.samples, request.sample_format)
        convert.check_recording(pcm, request.sample_rate_hertz)
        duration_s = len(pcm) / request.sample_rate_hertz
        if duration_s > self._max_recording_seconds:
            raise convert.too_long(f"last {duration_s:.1f} s; at most {self._max_recording_seconds:g} s are allowed.")
        return pcm

    def _check_codec(self, theirs: rvq_pb2.CodecIdentity) -> None:
        """The codes must belong to this codec; fields that the caller leaves out pass."""
        ours = values.from_identity(self._identity)
        for field, value in theirs.ListFields():
            if getattr(ours, field.name) != value:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "CODEC_MISMATCH",
                    f"The codec here is {_described(ours)}; the codes belong to {_described(theirs)}"
                    f" ({field.name} differs).",
                )


def _described(identity: rvq_pb2.CodecIdentity) -> str:
    numbers = f"{identity.codebook_count}x{identity.codebook_size} at {identity.sample_rate_hertz} Hz"
    return f"{identity.name} {identity.weights_digest[:19]} {numbers}"
