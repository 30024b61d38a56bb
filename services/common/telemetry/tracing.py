"""Opens the tracer of a stage. OpenTelemetry is imported only when the settings name a collector."""

from __future__ import annotations

from services.common.settings import ProgramSettings
from services.common.telemetry.spans import Tracer


class TracingPackagesError(OSError):
    """Traces are wanted, and the packages that send them are not installed."""


def open_tracer(settings: ProgramSettings, stage: str) -> Tracer | None:
    """None when the settings name no collector; nothing is imported then.

    stage: the service's name in traces. Raises TracingPackagesError.
    """
    if settings.trace_endpoint is None:
        return None
    try:
        from services.common.telemetry.otlp import OtlpTracer
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise TracingPackagesError(
            f"--trace-endpoint needs the package {error.name}, which is not installed; requirements/{stage}.txt has it."
        ) from None
    return OtlpTracer(stage, settings.trace_endpoint, settings.trace_sample_share)
