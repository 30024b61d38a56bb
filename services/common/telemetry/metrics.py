"""Prometheus metrics of a stage: the counters that every gRPC service has, in a registry of its own.

Names and labels are those of go-grpc-prometheus, so that dashboards for Go services fit. It knows no RPC; stages add
their own metrics to `registry`.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.background import Background

_LABELS = ["grpc_type", "grpc_service", "grpc_method"]
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class StageMetrics:
    """The metrics of one stage. `registry` takes the stage's own as well."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started = Counter("grpc_server_started", "RPCs started.", _LABELS, registry=self.registry)
        self.handled = Counter(
            "grpc_server_handled",
            "RPCs ended, by status.",
            [*_LABELS, "grpc_code"],
            registry=self.registry,
        )
        self.handling_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the start of an RPC to its end.",
            _LABELS,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.file_reloads = FileReloads(self.registry)
        self.certificate_ends = CertificateEnds(self.registry)
        self.background = counted_background(self.registry)


def counted_background(registry: CollectorRegistry) -> Background:
    """The tasks of a stage whose failures its metrics count."""
    failures = Counter(
        "stage_background_failures",
        "Failures of tasks that run as long as the stage, by task. Each is logged, and the task begins again.",
        ["task"],
        registry=registry,
    )
    return Background(failures)


class FileReloads:
    """Counts reloads of watched files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "stage_file_reloads",
            "Changes of a file that is followed while the stage runs, by its setting and by what came of it: used,"
            " refused (what was read before stays in use). One that does not answer is refused, and used when it does.",
            ["setting", "outcome"],
            registry=registry,
        )
        self._refused = Gauge(
            "stage_file_refused",
            "1 while a file that is followed cannot be used as it is, or does not answer, so that what was read before"
            " stays in use, by its setting.",
            ["setting"],
            registry=registry,
        )

    def __call__(self, setting: str) -> Callable[[bool], None]:
        """The `on_reload` of FollowedFiles for one file."""
        outcomes = {usable: self._counter.labels(setting, "used" if usable else "refused") for usable in (True, False)}
        refused = self._refused.labels(setting)

        def count(usable: bool) -> None:
            outcomes[usable].inc()
            refused.set(not usable)

        return count


class CertificateEnds:
    """Shows when the certificates in use expire."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(
            "stage_certificate_not_after_timestamp_seconds",
            "Unix time at which the certificate in use ends, by its setting.",
            ["setting"],
            registry=registry,
        )

    def __call__(self, setting: str) -> Callable[[Callable[[], float]], None]:
        """The result takes a function that returns the expiry of one certificate, called at each scrape."""
        return lambda end_s: self._gauge.labels(setting).set_function(end_s)
