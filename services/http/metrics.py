"""Metrics of the HTTP server."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.telemetry.metrics import CertificateEnds, FileReloads, counted_background

_SECONDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class HttpMetrics:
    """The metrics of one door, in a registry of its own."""

    def __init__(self, stream_count: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests",
            "Requests ended, by route, method and status; 499 is a caller that left or vanished, broken a stream that"
            " failed, or a WebSocket that failed for a reason of ours.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "http_request_seconds",
            "Time from a request's headers to its end.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_byte_seconds = Histogram(
            "http_first_audio_seconds",
            "Time from a request's headers to its first audio.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.file_reloads = FileReloads(self.registry)
        self.certificate_ends = CertificateEnds(self.registry)
        self.background = counted_background(self.registry)
        running = Gauge("http_running_streams", "Syntheses and WebSockets in progress.", registry=self.registry)
        running.set_function(stream_count)
