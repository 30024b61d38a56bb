"""The engine: requests in, frames of codes out. Start reading here.

`Engine.step` is the body of the loop: schedule, run, deliver. With a `pipeline_depth` of 1 the host launches frame step
n + 1 before it reads step n, so the device computes while the host delivers frames. One thread drives the engine
(engine_thread.py). The engine does not know audio, the codec or the network.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sized
from typing import NamedTuple

import torch

from csm_engine.config import EngineConfig
from csm_engine.execution.prompt_rows import FirstFrame, PromptRows
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.kv.host_offload import OffloadedKV
from csm_engine.kv.offload_index import OffloadIndex, Page
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.loop.health import EngineHealth
from csm_engine.loop.in_flight_steps import InFlightSteps
from csm_engine.loop.step import FrameStep
from csm_engine.model.prompt import PromptBuilder, Read, as_written
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.outcome import FINISH_REASONS, Outcome
from csm_engine.scheduling.pacing import Pacing
from csm_engine.scheduling.scheduler import FrameBatch, PrefillBatch, PrefillChunk, Scheduler, Work
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.types import Codes, FinishReason, GenerationRequest

log = logging.getLogger("csm.engine")


class Output(NamedTuple):
    """One event of one sequence: it was admitted, made a frame, or ended.

    frame: (K,) int16 codes; None for an admission, and for an end without a frame.
    finish_reason: set in the sequence's last output only.
    The sequence's own fields may already include later steps.
    """

    sequence: Sequence
    frame: Codes | None = None
    finish_reason: FinishReason | None = None


class Engine:
    """Runs many sequences over one model. Not thread-safe: one thread makes every call but `check`, `check_room` and
    `prepare`. Any thread may read the properties.
    """

    def __init__(
        self,
        frame_step: FrameStep,
        tokenizer: TextTokenizer,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """frame_step: built for `config.total_slots` slots; clock: in seconds, measures playout leads."""
        self._clock = clock
        self._frame_step = frame_step
        self._model_config = model_config = frame_step.config
        self._device = frame_step.device
        self._num_slots = config.slots
        self._prompts = PromptBuilder(
            tokenizer,
            num_codebooks=model_config.num_codebooks,
            codebook_size=model_config.codebook_size,
            max_seq_len=model_config.max_seq_len,
            reserved_frames=config.reserved_frames,
        )
        cache = frame_step.backbone.cache
        page = Page.pinned(cache.bytes_per_position) if self._device.type == "cuda" else None
        self._offloaded = OffloadedKV(cache, page)
        self._offload_index = OffloadIndex(config.offload_bytes, cache.bytes_per_position, page)
        if config.offload_bytes and not self._offload_index.max_pages:
            log.warning("offload_bytes is %d, less than a page: nothing is offloaded", config.offload_bytes)
        self._scheduler = Scheduler(
            SlotPool(config.slots, config.spare_slots, self._offload_index),
            max_waiting=config.max_waiting,
            prefill_chunk=config.prefill_chunk,
            pacing=Pacing(
                max_rows=config.slots,
                saturation_batch=config.saturation_batch,
                max_playout_lead_s=config.max_playout_lead_seconds,
            ),
            frame_budget=RealTimeBudget(config.real_time_share),
        )
        self._health = EngineHealth()
        self._prefill_timer: StageTimer[PrefillBatch] = StageTimer(self._device)
        self._pipeline_depth = config.pipeline_depth_on(self._device.type)
        self._steps = InFlightSteps(
            frame_step,
            num_rows=config.slots,
            num_codebooks=model_config.num_codebooks,
            depth=self._pipeline_depth,
            device=self._device,
        )

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """Runs one prefill pass, or one frame step of a batch of sequences. Returns the outputs that are ready.

        Raises: EngineFaultError if the engine computes nothing but what is no number.
        """
        admitted, work = self._schedule()
        self._run(work)
        return admitted + self._deliver(work)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def next_wakeup(self) -> float | None:
        """Seconds until `step` has work: 0 is now; None waits for the next request."""
        if len(self._steps):
            return 0.0  # a launched step must be read, also a dead one: it refers to its sequences
        return self._scheduler.next_wakeup(self._clock())

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot, those in prefill included."""
        return self._scheduler.num_admitted

    @property
    def num_waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def cache_usage(self) -> float:
        """Share of the KV cache that running and prefilling sequences fill, 0 to 1."""
        used = sum(item.prefilled for item in list(self._scheduler.prefilling))
        used += sum(item.next_position for item in list(self._scheduler.running))
        return used / (self._num_slots * self._model_config.max_seq_len)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of keys and values in host memory."""
        return self._offload_index.num_bytes

    def add_request(self, request: GenerationRequest) -> Sequence:
        """`prepare` and `add` in one call."""
        return self.add(self.prepare(request))

    def check(self, request: GenerationRequest) -> None:
        """Validates everything but the length of the texts, without tokenizing them. Any thread may call it.

        Raises: InvalidRequestError.
        """
        request.check()
        self._prompts.check(request.segments, request.resume)

    def check_room(self, pending: Sized, *, has_listener: bool) -> None:
        """Raises EngineBusyError if the queue is full. See Scheduler.check_room. Any thread may call it."""
        self._scheduler.check_room(pending, has_listener=has_listener)

    def prepare(self, request: GenerationRequest, read: Read = as_written) -> Sequence:
        """Validates a request and tokenizes its texts, which takes a while for long ones. Any thread may call it.

        read: the text front end, applied to each segment before the tokenizer.
        Raises: InvalidRequestError, PromptTooLongError.
        """
        self.check(request)
        resume = request.resume
        prompt = self._prompts.build(
            request.segments,
            max_frames=request.max_frames,
            resume=resume,
            num_pinned=request.pinned_segments,
            read=read,
        )
        sequence = Sequence(request, prompt)
        if resume is not None:
            sequence.num_frames = sequence.resumed_frames = len(resume)
        return sequence

    def add(self, sequence: Sequence, on_queued: Callable[[], object] | None = None) -> Sequence:
        """Queues a sequence that `prepare` returned, and returns it.

        on_queued: given when `check_room` has accepted it. Raises: EngineBusyError without it, if the queue is full.
        """
        self._scheduler.add(sequence, on_queued)
        return sequence

    def reset_timings(self) -> None:
        """Forgets the measured times of steps and prefill passes; those of a warm-up include loading libraries."""
        self._scheduler.frame_budget.reset()
        self._scheduler.prefill_budget.reset()

    def abort(self, sequence: Sequence) -> None:
        """Cancels a sequence and frees its slot. Has no effect on a finished sequence."""
        if sequence.status is not SequenceStatus.FINISHED:
            sequence.finish(FinishReason.CANCELLED)
        self._scheduler.remove(sequence)

    def _schedule(self) -> tuple[list[Output], Work | None]:
        """Admits waiting sequences and chooses the next work; None when there is nothing to run."""
        return self._admit(), self._scheduler.next_work(self._clock())

    def _run(self, work: Work | None) -> None:
        match work:
            case PrefillBatch() as batch:
                self._prefill(batch)
            case FrameBatch(sequences):
                self._steps.launch(sequences)

    def _admit(self) -> list[Output]:
        outputs = []
        while (admitted := self._scheduler.admit()) is not None:
            sequence, lease = admitted
            sequence.admitted_at = time.monotonic()
            self._copy_reused(lease)
            outputs.append(Output(sequence))
        return outputs

    def _copy_reused(self, lease: Lease) -> None:
        """Copies the keys and values that the sequence reuses into its slot, in the order that Lease asks for."""
        if lease.offload is not None:
            self._offloaded.drop(lease.offload.dropped)
            self._offloaded.save(lease.offload.ticket, lease.slot, lease.offload.length)
        if lease.copy_from is not None:
            self._frame_step.backbone.cache.copy(lease.copy_from, lease.slot, lease.reused)
        if lease.restore is not None:
            self._offloaded.restore(lease.restore.ticket, lease.slot, lease.reused)
            self._offloaded.drop(lease.restore.dropped)

    def _prefill(self, batch: PrefillBatch) -> None:
        """Prefills the chunks in one pass. After its last chunk a slot is ready for its first frame step."""
        self._record_prefill_times()  # here too: sequences may be cancelled before any frame step is read
        with self._prefill_timer.measure(batch):
            self._frame_step.prefill([_prompt_rows(chunk) for chunk in batch.chunks])
        self._scheduler.prefilled(batch)

    def _deliver(self, work: Work | None) -> list[Output]:
        """Reads the steps in flight, oldest first, and returns their outputs.

        After a frame step was launched, up to `pipeline_depth` steps stay in flight. Otherwise all are read: the device
        is busy with the prefill pass, or there is nothing left to launch.
        """
        max_in_flight = self._pipeline_depth if isinstance(work, FrameBatch) else 0
        outputs = []
        while len(self._steps) > max_in_flight:
            result, stages = self._steps.read(), self._frame_step.timer.take()
            self._record_prefill_times()
            # A sequence that finished after the launch gets no output from its row.
            rows = [row for row in result if row[0].status is not SequenceStatus.FINISHED]
            if rows:
                self._scheduler.frame_budget.observe(len(result.sequences), result.seconds)
            for sequence, codes, outcome in rows:
                sequence.count_step(result.seconds, stages)
                outputs.append(self._deliver_row(sequence, codes, outcome))
        return outputs

    def _record_prefill_times(self) -> None:
        """Records the seconds of the prefill passes that the device has finished."""
        for batch, seconds in self._prefill_timer.take().items():
            self._scheduler.prefill_budget.observe(batch.num_rows, seconds)
            for chunk in batch.chunks:
                chunk.sequence.prefill_seconds += seconds

    def _deliver_row(self, sequence: Sequence, codes: Codes, outcome: int) -> Output:
        """Records one row of a step in its sequence. codes: (K,) int16; outcome: an Outcome."""
        frame = None if outcome in (Outcome.END_OF_SPEECH, Outcome.INVALID_FRAME) else codes
        reason = FINISH_REASONS[outcome]
        self._health.check(sequence, reason)
        if frame is not None:
            if sequence.first_frame_at is None:
                sequence.first_frame_at = self._clock()
            sequence.num_frames += 1
            sequence.frames.append(frame)
        if reason is not None:
            sequence.finish(reason)
            self._scheduler.end(sequence, self._clock())
        return Output(sequence, frame, reason)


def _prompt_rows(chunk: PrefillChunk) -> PromptRows:
    sequence = chunk.sequence
    slot, request, rows = sequence.slot, sequence.request, sequence.prompt.rows
    assert slot is not None
    first_frame = None
    if chunk.is_last:
        first_frame = FirstFrame(rows[-1], len(rows) - 1, sequence.num_frames, request.sampling, request.max_frames)
    return PromptRows(slot, chunk.start, rows[chunk.start : chunk.start + chunk.length], first_frame)
