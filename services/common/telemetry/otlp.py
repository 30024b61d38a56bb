"""Spans by OpenTelemetry, sent to a collector over OTLP/gRPC. The only module of the stages that imports it.

Each stage has its own provider, so three stages in one process are three services. A thread sends the spans, so a slow
or lost collector loses spans but delays no call.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.telemetry import logs
from services.common.telemetry.spans import CallMetadata, SpanValue, TextMetadata

log = logging.getLogger("csm.tracing")

STOP_S = 5.0  # for sending the last spans when a stage stops

_W3C = TraceContextTextMapPropagator()
_QUOTING_LOGGERS = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")
_LOGGED_ONLY = {"labels"}  # words of the caller's choice
# OpenTelemetry's rule for servers: the caller's own mistakes and cancels are no errors of theirs.
_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class OtlpTracer:
    """Spans of one stage."""

    def __init__(self, stage: str, endpoint: str, sample_share: float) -> None:
        """endpoint: "http://collector:4317", or https; sample_share: of the traces that no caller has begun"""
        for name in _QUOTING_LOGGERS:  # they log every malformed header with the text of its sender
            logging.getLogger(name).setLevel(logging.ERROR)
        resource = Resource.create(
            {"service.namespace": "csm", "service.name": stage, "host.name": socket.gethostname()}
        )
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"))
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(sample_share)), resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("csm")

    @property
    def provider(self) -> TracerProvider:
        return self._provider

    def begin(self, service: str, method: str, metadata: CallMetadata) -> OtlpSpan:
        carrier = {key: str(value) for key, value in metadata if key in _W3C.fields}
        return OtlpSpan(
            self._tracer.start_span(
                f"{service}/{method}",
                _W3C.extract(carrier, Context()),
                SpanKind.SERVER,
                {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            )
        )

    async def stop(self) -> None:
        stopping = asyncio.ensure_future(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait({stopping}, timeout=STOP_S)
        if not stopping.done():
            log.warning("the last spans are lost: %s did not take them within %g s", self._endpoint, STOP_S)
            self._exporter.shutdown()  # which ends the other thread's wait
        await stopping


class OtlpSpan:
    """Recorded and sent if its trace is sampled; otherwise it only passes the trace's id on."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace_id = format_trace_id(context.trace_id) if context.is_valid else ""

    def event(self, name: str, attributes: Mapping[str, SpanValue]) -> None:
        self._span.add_event(name, {f"csm.{key}": value for key, value in attributes.items()})

    def end(self, code: grpc.StatusCode, reason: str, fields: Mapping[str, logs.LogValue]) -> None:
        shown = {key: value for key, value in fields.items() if value is not None and key not in _LOGGED_ONLY}
        self._span.set_attributes({f"csm.{key}": value for key, value in shown.items()})
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if reason:
            self._span.set_attribute("csm.reason", reason)
        if code in _ERRORS:
            self._span.set_status(StatusCode.ERROR, reason or code.name)
        self._span.end()

    def outgoing_metadata(self) -> TextMetadata:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(self._span, Context()))
        return tuple(carrier.items())
