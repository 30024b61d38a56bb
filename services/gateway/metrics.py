"""The gateway's own metrics. Those of every gRPC service are in services/common/telemetry/metrics.py."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.telemetry.former_metrics import FormerMetrics

_LATENCY_SECONDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)


class GatewayMetrics:
    """Counts and durations of syntheses, as callers see them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.first_audio_seconds = Histogram(
            "tts_first_audio_seconds",
            "Time from arrival, of a text in pieces from the end of its first sentence, to the first audio handed to"
            " gRPC.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "tts_queue_seconds",
            "Time from arrival, of a text in pieces from the end of its first sentence, to the first model step.",
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        self.real_time_factor = Histogram(
            "tts_real_time_factor",
            "Time of a whole synthesis over the length of its audio; below 1 is faster than speech."
            " Without the waits for the words of a text.",
            buckets=_FACTORS,
            registry=registry,
        )
        self.audio_seconds = Counter("tts_audio_seconds", "Audio delivered.", registry=registry)
        self.ready = Gauge(
            "tts_ready",
            "1 while the gateway takes calls: engine and codec are ready and belong together; 0 also while it stops.",
            registry=registry,
        )
        self.running_requests = Gauge("tts_running_requests", "Syntheses in progress.", registry=registry)
        self.cancelled = Counter(
            "tts_cancelled",
            "Syntheses that ended because the caller left or its deadline passed, by where they were: request (before"
            " it was read and checked), context, queue, generate and others.",
            ["stage"],
            registry=registry,
        )
        self.failed = Counter(
            "tts_failed",
            "Syntheses that failed, by reason; also those of wrong requests, and those that were refused before they"
            " began. Not those in tts_refused_calls.",
            ["reason"],
            registry=registry,
        )
        self.finished = Counter(
            "tts_finished",
            "Syntheses that came to their end, by finish reason: end_of_speech; max_audio_duration and context_window"
            " cut the speech, which HTTP audio without events tells in a trailer alone.",
            ["finish_reason"],
            registry=registry,
        )
        self.failovers = Counter(
            "tts_failovers",
            "Losses of a stage in a running stream, by stage and by what came of it: resumed, failed, exhausted.",
            ["stage", "outcome"],
            registry=registry,
        )
        self.resumed_streams = Counter(
            "tts_resumed_streams",
            "Streams that another gateway had begun, by kind (utterance, text) and by where they went on: checkpoint"
            " (behind what was sent, or behind the last whole sentence of a text), codes (what was made was decoded and"
            " encoded again, not generated), start.",
            ["kind", "at"],
            registry=registry,
        )
        self.decode_slots = Counter(
            "tts_decode_slots",
            "Decode slots that streams gave back because the client took nothing, and took again: given_back,"
            " taken_again.",
            ["event"],
            registry=registry,
        )
        self.engine_calls = Counter(
            "tts_engine_calls",
            "Calls to engines, by how the engine was chosen: conversation, load. A call that moves counts once.",
            ["by"],
            registry=registry,
        )
        self.full_replicas = Counter(
            "tts_full_replicas",
            "Calls that a full engine or codec refused, by how it was chosen and by what came of it: moved (sent to"
            " another one), refused.",
            ["stage", "by", "outcome"],
            registry=registry,
        )
        self.refused = Counter(
            "tts_refused_calls",
            "Calls refused for who called, by reason: CREDENTIAL_MISSING, CREDENTIAL_INVALID, QUOTA_EXCEEDED.",
            ["reason"],
            registry=registry,
        )
        self.large_requests = Gauge(
            "tts_large_requests", "Large requests that arrive, or wait to be decoded.", registry=registry
        )
        self.recording_bytes = Gauge(
            "tts_recording_bytes", "Decoded samples of recordings that are being encoded.", registry=registry
        )
        self.waiting_recordings = Gauge(
            "tts_waiting_recordings", "Calls whose recordings wait to be decoded.", registry=registry
        )
        self.refused_recordings = Counter(
            "tts_refused_recordings",
            "Calls refused for want of memory for their recordings, by where they were: arriving, waiting.",
            ["where"],
            registry=registry,
        )
        self.ended_waits = Counter(
            "tts_ended_waits",
            "Calls that were ended while they waited for their caller's next message, because memory was short.",
            registry=registry,
        )
        self.voices = Gauge(
            "tts_voices",
            "Voices that the gateway knows, by source: model, folder, kept.",
            ["source"],
            registry=registry,
        )
        self.voice_lookups = Counter(
            "tts_voice_lookups",
            "Voices of requests, by where they were found: model, folder, kept, none, or broken (a prompt that cannot"
            " be used).",
            ["source"],
            registry=registry,
        )
        # From the first scrape on: an increase from no series to one is none to Prometheus.
        for stage in ("engine", "codec"):
            for outcome in ("resumed", "failed", "exhausted"):
                self.failovers.labels(stage, outcome)
        for finish_reason in ("end_of_speech", "max_audio_duration", "context_window"):
            self.finished.labels(finish_reason)
        for where in ("arriving", "waiting"):
            self.refused_recordings.labels(where)
        for by in ("conversation", "load"):
            for outcome in ("moved", "refused"):
                self.full_replicas.labels("engine", by, outcome)
            self.engine_calls.labels(by)
        for outcome in ("moved", "refused"):
            self.full_replicas.labels("codec", "load", outcome)
        for source in ("model", "folder", "kept"):
            self.voices.labels(source)
            self.voice_lookups.labels(source)
        for source in ("none", "broken"):
            self.voice_lookups.labels(source)
        for at in ("checkpoint", "codes", "start"):
            for kind in ("utterance", "text"):
                self.resumed_streams.labels(kind, at)
        for event in ("given_back", "taken_again"):
            self.decode_slots.labels(event)
        for reason in ("CREDENTIAL_MISSING", "CREDENTIAL_INVALID", "QUOTA_EXCEEDED"):
            self.refused.labels(reason)
        FormerMetrics(registry, {"tts_repairs": self.failovers})
