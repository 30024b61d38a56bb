"""Answers bytes that are no message with INVALID_ARGUMENT and a reason. It knows no service.

When a deserializer raises, gRPC logs a traceback and passes None to the handler, or ends the call as UNKNOWN. So the
deserializers here never raise: they return Malformed. `checked` turns it into the status where the request is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.common.rpc.status import StatusError

REASON = "MESSAGE_MALFORMED"

Deserialize = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that could not be read."""

    size: int


def tolerant(deserialize: Deserialize | None) -> Deserialize | None:
    """The deserializer, giving Malformed for what is no message."""
    if deserialize is None:
        return None

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except (DecodeError, UnicodeDecodeError, ValueError, RecursionError):
            return Malformed(len(content))

    return read


def checked(message: Any) -> Any:
    """The message. Raises StatusError INVALID_ARGUMENT."""
    if isinstance(message, Malformed):
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            REASON,
            f"The request is no message of this method: its {message.size} bytes cannot be read as protobuf.",
        )
    return message
