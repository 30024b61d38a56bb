"""The engine's own metrics. Those of every gRPC service are in services/common/telemetry/metrics.py."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from csm_engine.loop.engine import Output
from csm_engine.scheduling.buckets import BUCKETS, MAX_PREFILL_PROMPTS
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.types import FinishReason
from services.common.telemetry.former_metrics import FormerMetrics

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class EngineMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.active_slots = Gauge("engine_active_slots", "Sequences that hold a slot.", registry=registry)
        self.queue_depth = Gauge(
            "engine_queue_depth", "Sequences that wait for a slot, or for their prefill.", registry=registry
        )
        self.offloaded_bytes = Gauge(
            "engine_offloaded_bytes", "Keys and values kept in host memory (--offload-bytes).", registry=registry
        )
        self._frames = Counter("engine_frames", "Frames made.", registry=registry)
        self._step_frames = Histogram(
            "engine_step_frames", "Frames that came of one step.", buckets=BUCKETS, registry=registry
        )
        self._step_admissions = Histogram(
            "engine_step_admissions",
            "Sequences that got a slot together, for a shared prefill.",
            buckets=range(1, MAX_PREFILL_PROMPTS + 1),
            registry=registry,
        )
        self._finished = Counter("engine_sequences_finished", "Sequences ended.", ["reason"], registry=registry)
        for reason in FinishReason:  # from 0 on, so that an alert sees the first one
            self._finished.labels(reason.value)
        self._queue_seconds = Histogram(
            "engine_queue_seconds", "Time a sequence waited for a slot.", buckets=_SECONDS, registry=registry
        )
        self._prefill_seconds = Histogram(
            "engine_prefill_seconds", "Time in prefill, per sequence.", buckets=_SECONDS, registry=registry
        )
        self._frame_seconds = Histogram(
            "engine_frame_seconds", "Time of a frame step, mean of a sequence.", buckets=_SECONDS, registry=registry
        )
        self._prompt_tokens = Counter(
            "engine_prompt_tokens", "Prompt positions of admitted sequences.", registry=registry
        )
        self._reused_tokens = Counter(
            "engine_reused_tokens", "Of those, positions that a slot still remembered.", registry=registry
        )
        self._restored_tokens = Counter(
            "engine_restored_tokens", "Of those, positions that came back from host memory.", registry=registry
        )
        self._stage_seconds = Counter(
            "engine_stage_seconds", "Time in each stage of a frame step, per sequence.", ["stage"], registry=registry
        )
        FormerMetrics(registry, {"engine_spilled_bytes": self.offloaded_bytes})

    def observe_step(self, outputs: list[Output]) -> None:
        if frames := sum(output.frame is not None for output in outputs):
            self._frames.inc(frames)
            self._step_frames.observe(frames)
        if admitted := sum(output.frame is None and output.finish_reason is None for output in outputs):
            self._step_admissions.observe(admitted)

    def observe_end(self, sequence: Sequence) -> None:
        """To be called once per sequence, when its call ends."""
        reason = sequence.finish_reason.value if sequence.status is SequenceStatus.FINISHED else "cancelled"  # type: ignore[union-attr]
        self._finished.labels(reason).inc()
        if sequence.admitted_at:
            self._queue_seconds.observe(sequence.admitted_at - sequence.arrived_at)
            self._prompt_tokens.inc(len(sequence.prompt))
            self._reused_tokens.inc(sequence.reused)
            self._restored_tokens.inc(sequence.restored)
        if sequence.frames:
            self._prefill_seconds.observe(sequence.prefill_seconds)
            self._frame_seconds.observe(sequence.decode_seconds / sequence.steps_read)
            self._stage_seconds.labels("backbone").inc(sequence.backbone_seconds)
            self._stage_seconds.labels("depth_decoder").inc(sequence.depth_decoder_seconds)
