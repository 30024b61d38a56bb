"""The codec's own metrics. Those of every gRPC service are in services/common/telemetry/metrics.py."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from csm_codec.stream import Audio, Complete, DecodeStream, Failed, Output
from csm_codec.watermark.detect.detector import Detection
from csm_codec.watermark.stream.coverage import Coverage
from services.common.telemetry.former_metrics import FormerMetrics

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)


class CodecMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.active_streams = Gauge("codec_active_streams", "Streams that hold a slot.", registry=registry)
        self.waiting_streams = Gauge("codec_waiting_streams", "Streams that wait for a slot.", registry=registry)
        self._step_seconds = Histogram(
            "codec_step_seconds",
            "Time to take one frame of every ready stream of a thread.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._frames = Counter("codec_frames", "Frames decoded.", registry=registry)
        self._decode_seconds = Counter("codec_decode_seconds", "Time in the decoder.", registry=registry)
        self._watermark_seconds = Counter("codec_watermark_seconds", "Time in the watermarker.", registry=registry)
        self._streams = Counter("codec_streams_ended", "Streams ended.", ["outcome"], registry=registry)
        self._coverage = Counter(
            "codec_watermarked_streams", "Streams completed, by coverage.", ["coverage"], registry=registry
        )
        # Present from the first scrape on, because Prometheus sees no increase in a series that appears with 1.
        for outcome in ("complete", "failed", "cancelled"):
            self._streams.labels(outcome)
        for coverage in Coverage:
            self._coverage.labels(coverage.value)
        self._detections = Counter("codec_detect", "Recordings searched for the mark.", ["found"], registry=registry)
        self._encoded_seconds = Counter("codec_encoded_audio_seconds", "Audio encoded.", registry=registry)
        FormerMetrics(registry, {"codec_tick_seconds": self._step_seconds})

    def observe_step(self, outputs: Sequence[Output], seconds: float) -> None:
        self._step_seconds.observe(seconds)
        self._frames.inc(sum(output.num_new_frames for output in outputs if isinstance(output, Audio)))

    def observe_end(self, stream: DecodeStream, end: Complete | Failed | None) -> None:
        """To be called once per stream. end: None if the caller, the deadline or a wrong request has ended it"""
        match end:
            case Complete():
                outcome = "complete"
                self._coverage.labels(end.coverage.value).inc()
            case Failed():
                outcome = "failed"
            case None:
                outcome = "cancelled"
        self._streams.labels(outcome).inc()
        self._decode_seconds.inc(stream.decode_s)
        self._watermark_seconds.inc(stream.watermark_s)

    def observe_detection(self, detection: Detection) -> None:
        self._detections.labels(str(detection.detected).lower()).inc()

    def observe_encoding(self, seconds: float) -> None:
        """seconds: of audio"""
        self._encoded_seconds.inc(seconds)
