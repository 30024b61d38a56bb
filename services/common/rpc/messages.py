"""Messages as they came: their size, and INVALID_ARGUMENT for bytes that are none, or too many values. It knows no
service.

When a deserializer raises, gRPC logs a traceback and passes None to the handler, or ends the call as UNKNOWN. So the
deserializers here never raise. `checked` raises the status where the request is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from services.common.rpc.message_values import MOST_VALUES, has_too_many_values
from services.common.rpc.status import StatusError

REASON = "MESSAGE_MALFORMED"
TOO_MANY = "TOO_MANY_VALUES"

Deserialize = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Received:
    """message: None when the bytes are none, or not parsed. num_bytes: of it; the library would serialize it for its
    size
    """

    message: Any
    num_bytes: int
    has_too_many_values: bool = False


def tolerant(deserialize: Deserialize | None) -> Deserialize | None:
    """The deserializer, giving Received."""
    if deserialize is None:
        return None
    kind = _kind_of(deserialize)

    def read(content: bytes) -> Any:
        try:
            if kind is not None and has_too_many_values(content, kind):
                return Received(None, len(content), has_too_many_values=True)
            return Received(deserialize(content), len(content))
        except (DecodeError, UnicodeDecodeError, ValueError, RecursionError):
            return Received(None, len(content))

    return read


def _kind_of(deserialize: Deserialize) -> Descriptor | None:
    """Of the messages that it makes; None where they stay bytes."""
    owner = getattr(deserialize, "__self__", None)  # FromString is a method of the message's class
    if not (isinstance(owner, type) and issubclass(owner, Message)):
        return None
    return owner.DESCRIPTOR  # type: ignore[return-value]  # upb's own class, which its stubs name


def checked(request: Any) -> Any:
    """The message; an iterator of messages as it is. Raises StatusError INVALID_ARGUMENT."""
    if not isinstance(request, Received):
        return request
    if request.has_too_many_values:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            TOO_MANY,
            f"The request has more than {MOST_VALUES} values, those of its parts included; no request needs as many.",
        )
    if request.message is None:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            REASON,
            f"The request is no message of this method: its {request.num_bytes} bytes cannot be read as protobuf.",
        )
    return request.message
