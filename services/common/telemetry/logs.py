"""Log lines as text or JSON, with the ids of the request and of its trace, if there are any.

Text and audio of requests are never logged. `request_id` and `trace_id` are context variables, so they follow a call
through asyncio tasks. `annotate` adds fields to the line that is written when a call ends. This module knows no RPC.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Literal

from services.common.telemetry.log_lines import LineWriter

LogValue = str | int | float | bool | None

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
_call_fields: ContextVar[dict[str, LogValue] | None] = ContextVar("call_fields", default=None)

GRPC_LOGGER = "grpc._cython.cygrpc"
TALK_AT_IMPORT = ("torch.utils._pytree", "alembic.runtime.plugins")  # of things outside this project


def begin_call_fields() -> dict[str, LogValue]:
    """Returns the dictionary that `annotate` fills for the call of this context."""
    fields: dict[str, LogValue] = {}
    _call_fields.set(fields)
    return fields


def annotate(**fields: LogValue) -> None:
    """Adds fields to the line of the running call; does nothing outside of a call."""
    collected = _call_fields.get()
    if collected is not None:
        collected.update(fields)


def fields_extra(fields: Mapping[str, LogValue]) -> dict[str, Mapping[str, LogValue]]:
    """The `extra` of a logging call that carries structured fields."""
    return {"fields": fields}


class RequestIdFilter(logging.Filter):
    """Stamps each record with the ids of its context. On handlers, so that it sees every logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        if not hasattr(record, "trace_id"):
            record.trace_id = trace_id.get()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, LogValue] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_ids(record))
        line.update(record.__dict__.get("fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{whole}.{int(record.msecs):03d}Z"


class TextFormatter(JsonFormatter):
    """`time level logger [request_id trace_id] message key=value ...`"""

    def format(self, record: logging.LogRecord) -> str:
        parts = [self.formatTime(record), record.levelname.lower(), record.name]
        if ids := _ids(record):
            parts.append(f"[{' '.join(ids.values())}]")
        parts.append(record.getMessage())
        parts += [f"{key}={_printable(value)}" for key, value in record.__dict__.get("fields", {}).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _printable(value: LogValue) -> str:
    """Escapes line breaks, so that a caller's text cannot begin a line."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)


def _ids(record: logging.LogRecord) -> dict[str, str]:
    """The ids that the record has."""
    return {name: record.__dict__[name] for name in ("request_id", "trace_id") if record.__dict__.get(name)}


class GrpcFilter(logging.Filter):
    """Shortens gRPC's tracebacks for faults of callers: metadata that is not UTF-8, which it would log raw, and answers
    to callers that have left.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith("Invalid encoding"):
            record.msg, record.args, record.exc_info = "the metadata of a call is not UTF-8", (), None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        elif message.startswith("ExecuteBatchError"):
            record.msg, record.args, record.exc_info = "a caller has left before its answer", (), None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def configure_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Sends every logger's records to standard error. Called once, by a program's main."""
    handler = LineWriter(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(RequestIdFilter())
    logging.getLogger(GRPC_LOGGER).addFilter(GrpcFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALK_AT_IMPORT:
        logging.getLogger(name).setLevel(logging.ERROR)
