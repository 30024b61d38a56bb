"""What stages report beside their responses: their load, and their traces, which a real OTLP server collects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2

from services.common.rpc import load_report


@dataclass(frozen=True)
class SentSpan:
    """A span as it arrived, with the service that its resource names."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str  # "" of a root
    attributes: dict[str, object]
    events: list[tuple[str, dict[str, object]]]
    is_error: bool
    ended: bool
    raw: bytes

    def event(self, name: str) -> dict[str, object]:
        (found,) = [attributes for event, attributes in self.events if event == name]
        return found


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP server that keeps the spans of all stages. A stage exports its last spans when it stops."""

    endpoint: str = ""
    spans: list[SentSpan] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)  # of the last call

    async def Export(self, request: Any, context: Any) -> Any:
        self.metadata = dict(context.invocation_metadata())
        for resource in request.resource_spans:
            service = values_of(resource.resource.attributes)["service.name"]
            self.spans += [as_sent(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[SentSpan]:
        """The spans whose name ends with `name`, in the order of their arrival."""
        return [span for span in self.spans if span.name.endswith(name)]

    def only(self, name: str) -> SentSpan:
        (span,) = self.named(name)
        return span


def as_sent(service: str, span: Any) -> SentSpan:
    return SentSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=values_of(span.attributes),
        events=[(event.name, values_of(event.attributes)) for event in span.events],
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        ended=span.end_time_unix_nano >= span.start_time_unix_nano > 0,
        raw=span.SerializeToString(),
    )


def values_of(attributes: list[common_pb2.KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in attributes}


@pytest.fixture
async def collector(listen: Any) -> Collector:
    collector = Collector()
    collector.endpoint = f"http://{await listen(trace_service_pb2_grpc.add_TraceServiceServicer_to_server, collector)}"
    return collector


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(calls, slots) of each load report. gRPC's load balancing removes reports from what a caller sees, so they are
    recorded where they are made."""
    reported: list[tuple[int, int]] = []
    as_metadata = load_report.as_metadata

    def recorded(num_calls: int, num_slots: int) -> tuple[tuple[str, bytes]]:
        reported.append((num_calls, num_slots))
        return as_metadata(num_calls, num_slots)

    monkeypatch.setattr(load_report, "as_metadata", recorded)
    return reported
