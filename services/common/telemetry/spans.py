"""The span of the running call, as handlers and callers of other stages see it. It knows no tracing library.

`event` marks a moment of the running call, `outgoing_metadata` makes the next stage's span a child of this one. Without
tracing both do nothing. Text and audio of requests never go into a span.
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
    """The part of a trace that one RPC is, at the stage that answers it."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or "" without a trace."""

    def event(self, name: str, attributes: Mapping[str, SpanValue]) -> None: ...

    def end(self, code: grpc.StatusCode, reason: str, fields: Mapping[str, logs.LogValue]) -> None:
        """reason: of a failure, else ""; fields: what the log line says of the call"""

    def outgoing_metadata(self) -> TextMetadata: ...


class Tracer(Protocol):
    """Makes the spans of one stage and sends them away."""

    @property
    def provider(self) -> Any:
        """OpenTelemetry's TracerProvider, for libraries that make spans themselves."""

    def begin(self, service: str, method: str, metadata: CallMetadata) -> CallSpan:
        """The span of a call that has just come; a trace in its metadata is continued."""

    async def stop(self) -> None:
        """Sends what has not been sent yet, for a few seconds at most."""


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
    """Sets the span of the call that runs in this context."""
    _running.set(span)
    logs.trace_id.set(span.trace_id)


def event(name: str, **attributes: SpanValue) -> None:
    """Marks a moment of the running call."""
    _running.get().event(name, attributes)


def outgoing_metadata() -> TextMetadata:
    """Metadata by which another stage continues the trace of the running call."""
    return _running.get().outgoing_metadata()
