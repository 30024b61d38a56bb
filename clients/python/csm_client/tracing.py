"""Passes the caller's trace on, so that what the server does becomes a part of it.

It counts where the process has OpenTelemetry loaded and a span is current; this package does not depend on it and makes
no spans of its own.
"""

from __future__ import annotations

import sys


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """`traceparent` and `tracestate` of the span that is current, as W3C names them; nothing without one."""
    if "opentelemetry.trace" not in sys.modules:  # then nobody here can have begun a span
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
