"""Sends the current trace with each call, so that the server's spans become part of it.

This package does not depend on OpenTelemetry and creates no spans. It sends a trace only when the process has loaded
OpenTelemetry and a span is current.
"""

from __future__ import annotations

import sys


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """`traceparent` and `tracestate` of the span that is current, as W3C names them; nothing without one."""
    if "opentelemetry.trace" not in sys.modules:  # then no span can be current
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
