"""Messages as they came: their size, and INVALID_ARGUMENT for bytes that are none. It knows no service.

When a deserializer raises, gRPC logs a traceback and passes None to the handler, or ends the call as UNKNOWN. So the
deserializers here never raise. `checked` raises the status where the request is read.
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
class Received:
    """message: None when the bytes are none. num_bytes: of it; the library would serialize it for its size"""

    message: Any
    num_bytes: int


def tolerant(deserialize: Deserialize | None) -> Deserialize | None:
    """The deserializer, giving Received."""
    if deserialize is None:
        return None

    def read(content: bytes) -> Any:
        try:
            return Received(deserialize(content), len(content))
        except (DecodeError, UnicodeDecodeError, ValueError, RecursionError):
            return Received(None, len(content))

    return read


def checked(request: Any) -> Any:
    """The message; an iterator of messages as it is. Raises StatusError INVALID_ARGUMENT."""
    if not isinstance(request, Received):
        return request
    if request.message is None:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            REASON,
            f"The request is no message of this method: its {request.num_bytes} bytes cannot be read as protobuf.",
        )
    return request.message
