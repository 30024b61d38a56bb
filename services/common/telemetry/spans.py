"""The span of the current call. It knows no tracing library.

`event` adds an event to it, `outgoing_metadata` makes the next stage's span its child. Without tracing both do nothing.
Spans never contain text or audio of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import grpc

from services.common.telemetry import logs

SpanValue = str | int | float | bool
CallMetadata = Sequence[tuple[str, str | bytes]]
TextMetadata = tuple[tuple[str, str], ...]


class CallSpan(Protocol):
    """The server span of one RPC."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or "" without a trace."""

    def event(self, name: str, attributes: Mapping[str, SpanValue]) -> None: ...

    def end(self, code: grpc.StatusCode, reason: str, fields: Mapping[str, logs.LogValue]) -> None:
        """reason: of a failure, else ""; fields: those of the call's log line"""

    def outgoing_metadata(self) -> TextMetadata: ...


class Tracer(Protocol):
    """Makes and exports the spans of one stage."""

    @property
    def provider(self) -> Any:
        """OpenTelemetry's TracerProvider, for libraries that make their own spans."""

    def begin(self, service: str, method: str, metadata: CallMetadata) -> CallSpan:
        """The span of a new call. Continues a trace in its metadata."""

    async def stop(self) -> None:
        """Exports the remaining spans, for at most a few seconds."""


class _NoSpan:
    trace_id = ""

    def event(self, name: str, attributes: Mapping[str, SpanValue]) -> None:
        pass

    def end(self, code: grpc.StatusCode, reason: str, fields: Mapping[str, logs.LogValue]) -> None:
        pass

    def outgoing_metadata(self) -> TextMetadata:
        return ()


NO_SPAN = _NoSpan()
_running: ContextVar[CallSpan] = ContextVar("call_span", default=NO_SPAN)


def enter(span: CallSpan) -> None:
    """Sets the span of the current context."""
    _running.set(span)
    logs.trace_id.set(span.trace_id)


def event(name: str, **attributes: SpanValue) -> None:
    """Adds an event to the current span."""
    _running.get().event(name, attributes)


def outgoing_metadata() -> TextMetadata:
    """Metadata with which another stage continues the current trace."""
    return _running.get().outgoing_metadata()
