"""The synthesis of one utterance: the engine generates frames, the codec decodes them, the caller gets the samples.

    context codes -- Generate --> frames -- FrameBuffer, DecodeWindow -- StreamDecode --> deliver

It knows no public message and no audio format: it delivers 16-bit samples.

Two tasks of one group read engine and codec. A failure, a cancellation or the deadline ends the group and cancels both
RPCs. When a stage is lost, its call fails over to another replica: the engine continues after the codes received so
far; the codec decodes again from its last checkpoint, and samples already received are dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Protocol

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.common import frames as code_frames
from services.common.telemetry import spans
from services.common.values import seconds
from services.gateway.stages.backends import DescribesModel, Generates
from services.gateway.stages.catalog import Catalog
from services.gateway.stages.errors import StageError, broken, is_fault, is_misfit, lost_after, other_model, unreachable
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import Codec, CodecStream
from services.gateway.synthesis.context_fields import in_public_terms
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import Chunker, DecodePacing, FrameBuffer, in_messages
from services.gateway.synthesis.failover import Failovers
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.resume_state import ResumeState
from services.gateway.synthesis.segments import segments_of, turn_indices

_RESUMED_FRAMES = 8  # of an earlier run, in one message to the codec

# Takes 16-bit samples at the codec's rate, at least one. Returns, once the caller has room for more, the number of
# samples sent to the caller, at the caller's rate.
Deliver = Callable[[bytes], Awaitable[int]]


class Engine(Generates, DescribesModel, Protocol):
    """The engine methods that a synthesis calls."""


class Synthesis:
    """One run. `phase` and the sample counts report its progress, also after a failure.

    `generated` resolves to the codes of the whole utterance, so that the next one can begin before this one is played.
    """

    def __init__(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        engine: Engine,
        codec: Codec,
        pacing: DecodePacing,
        failovers: Failovers,
        before_decoding: Callable[[], Awaitable[None]] | None = None,
        clip: Clip | None = None,
        arrived_at_s: float | None = None,
        resume_from: ResumeState | None = None,
    ) -> None:
        """before_decoding: returns when decoding may begin. clip: the clip to continue; None begins a new one.
        arrived_at_s: when the call arrived, on the monotonic clock; None is now. resume_from: an earlier run of the
        plan.
        """
        self.phase = "queue"  # then "generate"
        self.generated: asyncio.Future[rvq_pb2.CodeFrames] = asyncio.get_running_loop().create_future()
        self.delivered_samples = 0  # at the codec's rate
        self.sent_samples = 0  # at the caller's rate
        self._arrived_at_s = time.monotonic() if arrived_at_s is None else arrived_at_s
        self._plan = plan
        self._catalog = catalog
        self._engine = engine
        self._codec = codec
        self._buffer = FrameBuffer()
        clip = clip or Clip()
        self._playout = clip.playout
        self._playout.begin()
        self._codec_stream = CodecStream(plan.request_id, catalog, codec, pacing, failovers, clip, plan.speed)
        self._failovers = failovers
        self._before_decoding = before_decoding
        self._chunker = Chunker(plan.chunk_frames * catalog.frame_samples)
        self._started: asyncio.Future[engine_pb2.GenerateStarted] = asyncio.get_running_loop().create_future()
        self._complete: engine_pb2.GenerateComplete | None = None
        self._conversation = plan.conversation
        self._queue_s = 0.0
        self._first_audio_s = 0.0
        if resume_from is not None:
            self._restore(resume_from)

    async def run(self, deadline: Deadline, deliver: Deliver) -> SynthesisResult:
        """Generates the audio and passes it to `deliver`.

        Raises StageError for failures of a stage, and whatever `deliver` raises.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._generate(deadline))
                watermark = await self._decode(deadline, deliver)
        except ExceptionGroup as failures:
            raise self._as_failure(failures.exceptions[0]) from failures.exceptions[0].__cause__
        assert self._complete is not None  # set before the buffer closes, which ends the decoding
        return SynthesisResult(
            complete=self._complete,
            started=self._started.result(),
            watermark=watermark,
            codes=self._codes,
            queue_s=self._queue_s,
            # The encoder may have held back all of a short audio until its end.
            first_audio_s=self._first_audio_s or (self._elapsed_s if self.delivered_samples else 0.0),
            total_s=self._elapsed_s,
            making_s=self._elapsed_s,
        )

    @property
    def frame_count(self) -> int:
        """Frames generated so far."""
        return self._buffer.frame_count

    def resume_state(self, first_frame: int, sample: int) -> ResumeState:
        """The frames so far from `first_frame` on, and the codec's last checkpoint at or before `sample`.

        To be called after audio was delivered.
        """
        codes = self._buffer.joined(self._catalog.identity.codebook_count, first_frame)
        checkpoint = self._codec_stream.checkpoint_before(sample)
        return ResumeState(codes, self._started.result(), self._complete, checkpoint, checkpoint.sample_offset)

    @property
    def _codes(self) -> rvq_pb2.CodeFrames:
        """The codes of all frames so far."""
        return self._buffer.joined(self._catalog.identity.codebook_count)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._arrived_at_s

    def _as_failure(self, error: Exception) -> Exception:
        if isinstance(error, StageError):
            turns, has_prompt = turn_indices(self._plan.turns), self._plan.prompt is not None
            return lost_after(in_public_terms(error, turns, has_prompt=has_prompt), self.sent_samples)
        return error

    def _generate_request(self) -> engine_pb2.GenerateRequest:
        plan = self._plan
        prompt = segments_of(() if plan.prompt is None else (plan.prompt,))
        spoken = engine_pb2.Segment(speaker_id=plan.speaker, text=plan.text)
        return engine_pb2.GenerateRequest(
            request_id=plan.request_id,
            segments=[*prompt, *segments_of(plan.turns), spoken],
            sampling_params=engine_pb2.SamplingParams(**asdict(plan.sampling)),
            max_frame_count=plan.max_frames,
            first_batch_frame_count=plan.first_batch_frames,
            max_batch_frame_count=plan.max_batch_frames,
            codec=self._catalog.identity,
            live=plan.live,
            speed=plan.speed,
            pinned_segment_count=len(prompt),
            is_followed=plan.is_followed,
        )

    async def _generate(self, deadline: Deadline) -> None:
        """Reads all frames, from one engine replica or, after a failover, from several."""
        request = self._generate_request()
        while self._complete is None:
            if self._failovers.has_listener:
                request.has_listener = True
                request.playout_lead.CopyFrom(seconds(self._playout.lead_s))
            if self._buffer.frame_count:
                request.resume_frames.CopyFrom(self._codes)
            try:
                self._complete = await self._read_engine(request, deadline)
            except StageError as error:
                if is_misfit(error) or is_fault(error):
                    self._conversation = ""  # its key would lead to the same engine again
                await self._failovers.wait_for_next_call(error, self._find_engine)
        claimed, received = self._complete.frame_count, self._buffer.frame_count
        if claimed != received:
            raise broken("ENGINE", f"it counts {claimed} frames but sent {received}.")
        self._buffer.close()
        self.generated.set_result(self._codes)

    def _restore(self, state: ResumeState) -> None:
        self._started.set_result(state.started)
        for frames in in_messages(state.codes, _RESUMED_FRAMES):
            self._buffer.put(frames)
        self._codec_stream.resume_at(state.checkpoint, state.skip_samples)
        if state.complete is not None:
            self.phase, self._complete = "generate", state.complete

    async def _find_engine(self, wait_s: float) -> None:
        await self._engine.model_info(wait_s, wait_for_ready=True, conversation=self._conversation)

    async def _read_engine(
        self, request: engine_pb2.GenerateRequest, deadline: Deadline
    ) -> engine_pb2.GenerateComplete:
        """Reads the engine as fast as it sends, however slowly the client reads."""
        if (reason := self._implied_end(request)) is not None:
            self._failovers.answered("ENGINE")
            return engine_pb2.GenerateComplete(finish_reason=reason, frame_count=self._buffer.frame_count)
        complete: engine_pb2.GenerateComplete | None = None
        call = self._engine.generate(
            request, deadline.remaining_s, self._conversation, tries_one=self._failovers.is_full("ENGINE")
        )
        async with aclosing(call) as responses:
            async for response in responses:
                match response.WhichOneof("event"):
                    case "started":
                        self._start(response.started)
                    case "frames":
                        self._take_frames(response.frames)
                    case "complete":
                        complete = response.complete
        if complete is None:
            raise unreachable("ENGINE")
        return complete

    def _implied_end(self, request: engine_pb2.GenerateRequest) -> engine_pb2.FinishReason | None:
        """The finish reason if a lost engine has sent every frame but no `complete`; None if frames are missing."""
        num_frames = self._buffer.frame_count
        if num_frames == request.max_frame_count:
            return engine_pb2.FINISH_REASON_MAX_FRAMES
        if self._started.done():
            used = self._started.result().prompt_token_count + num_frames - 1  # the last frame takes no position
            if used == self._catalog.model.context_window_size:
                return engine_pb2.FINISH_REASON_CONTEXT_WINDOW
        return None

    def _start(self, started: engine_pb2.GenerateStarted) -> None:
        """Checks that a resumed sequence runs on the same model with the same window; others would give other codes."""
        if self.phase == "queue":
            self.phase, self._queue_s = "generate", self._elapsed_s
        if not self._started.done():
            self._started.set_result(started)
        first = self._started.result()
        if started.weights_digest != first.weights_digest:
            raise other_model("ENGINE")
        if started.dropped_segment_count != first.dropped_segment_count:  # its context window differs
            raise other_model("ENGINE")
        self._failovers.answered("ENGINE")

    def _take_frames(self, frames: rvq_pb2.CodeFrames) -> None:
        try:
            code_frames.check_shape(frames, self._catalog.identity.codebook_count)
            code_frames.check_follows(frames, self._buffer.frame_count)
        except code_frames.MalformedFramesError as error:
            raise broken("ENGINE", str(error)) from None
        self._buffer.put(frames)
        unheard = max(0, min(frames.frame_count, self._buffer.frame_count - self._plan.heard_frames))
        self._playout.add(unheard * self._catalog.frame_s / self._plan.speed)

    async def _decode(self, deadline: Deadline, deliver: Deliver) -> codec_pb2.WatermarkResult:
        """Decodes and delivers audio, once the engine has started."""
        await self._started
        if self._before_decoding is not None:
            await self._before_decoding()

        async def take(samples: bytes) -> None:
            await self._deliver(self._chunker.push(samples), deliver)

        watermark = await self._codec_stream.run(self._buffer, deadline, take)
        await self._deliver(self._chunker.flush(), deliver)
        return watermark

    async def _deliver(self, chunks: list[bytes], deliver: Deliver) -> None:
        for chunk in chunks:
            sent = await deliver(chunk)
            if sent and not self.sent_samples:
                self._first_audio_s = self._elapsed_s
                spans.event("first audio")
            self.sent_samples += sent
            self._failovers.has_listener = True
            self.delivered_samples += len(chunk) // 2
