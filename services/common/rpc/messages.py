"""Deserialization with INVALID_ARGUMENT for malformed messages and for too many values, and UNAVAILABLE where memory is
short. It knows no service.

When a deserializer raises, gRPC logs a traceback and passes None to the handler, or ends the call as UNKNOWN. So the
deserializers here never raise. `checked` raises the status where the request is read.

The values of a message are counted before it is parsed, because even an empty one costs memory and time: 16 MiB of
empty turns are eight million values, which take 450 MiB when parsed, and seconds of the event loop. A string or bytes
field is one value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from services.common.rpc.status import StatusError

REASON = "MESSAGE_MALFORMED"
TOO_MANY = "TOO_MANY_VALUES"
MOST_VALUES = 20_000
_MIN_VALUE_BYTES = 2
_NO_MEMORY = "Arena alloc failed"  # how protobuf ends the message of a DecodeError when it gets no memory

_VARINT, _LENGTH = 0, 2  # wire types
_FIXED_BYTES = {1: 8, 5: 4}  # by wire type
_MAX_VARINT_BYTES = 10

Deserialize = Callable[[bytes], Any]
MessageType = Any  # a Descriptor, whose class depends on how protobuf was built


@dataclass(frozen=True, slots=True)
class Received:
    """message: None if it is malformed or has too many values, or if memory is short. num_bytes: its serialized size,
    as received.
    """

    message: Any
    num_bytes: int
    has_too_many_values: bool = False
    is_memory_short: bool = False


def tolerant(deserialize: Deserialize | None) -> Deserialize | None:
    """Wraps a deserializer to return Received, and never raise."""
    if deserialize is None:
        return None
    message_type = _message_type(deserialize)

    def read(content: bytes) -> Any:
        try:
            if message_type is not None and has_too_many_values(content, message_type):
                return Received(None, len(content), has_too_many_values=True)
            return Received(deserialize(content), len(content))
        except MemoryError:
            return Received(None, len(content), is_memory_short=True)
        except (DecodeError, ValueError, RecursionError) as error:
            return Received(None, len(content), is_memory_short=str(error).endswith(_NO_MEMORY))

    return read


def _message_type(deserialize: Deserialize) -> MessageType | None:
    """The type of the messages that it returns; None if they stay bytes."""
    owner = getattr(deserialize, "__self__", None)  # FromString is a method of the message's class
    if not (isinstance(owner, type) and issubclass(owner, Message)):
        return None
    return owner.DESCRIPTOR


def checked(request: Any) -> Any:
    """The message of a Received; anything else, such as an iterator, is returned as it is.

    Raises StatusError INVALID_ARGUMENT, or UNAVAILABLE where memory is short.
    """
    if not isinstance(request, Received):
        return request
    if request.has_too_many_values:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            TOO_MANY,
            f"The request has more than {MOST_VALUES} values, those of its parts included; no request needs as many.",
        )
    if request.is_memory_short:
        raise StatusError(
            grpc.StatusCode.UNAVAILABLE,
            "MEMORY_SHORT",
            f"The server is short of memory, and could not read the request of {request.num_bytes} bytes.",
            retry_delay_s=1.0,
        )
    if request.message is None:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            REASON,
            f"The request is no message of this method: its {request.num_bytes} bytes cannot be read as protobuf.",
        )
    return request.message


def has_too_many_values(content: bytes, message_type: MessageType) -> bool:
    """Whether a serialized message has more than MOST_VALUES values, those of nested messages included.

    Raises DecodeError for bytes that are no message.
    """
    return len(content) > MOST_VALUES * _MIN_VALUE_BYTES and _count(content, message_type) > MOST_VALUES


def _count(content: bytes, message_type: MessageType) -> int:
    """The number of values. Stops counting above MOST_VALUES."""
    count, at = 0, 0
    nesting = [(message_type, len(content))]  # the messages around `at`, each with its end
    while nesting and count <= MOST_VALUES:
        message_type, end = nesting[-1]
        if at == end:
            nesting.pop()
            continue
        count += 1
        key, at = _varint(content, at)
        wire_type = key & 7
        if wire_type == _VARINT:
            _, at = _varint(content, at)
        elif wire_type == _LENGTH:
            size, at = _varint(content, at)
            field = message_type.fields_by_number.get(key >> 3) if key < 2**32 else None
            if field is not None and field.message_type is not None and at + size <= end:
                nesting.append((field.message_type, at + size))
            else:
                at += size
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:  # a group, which no message here has
            raise DecodeError("a group")
        if at > end:
            raise DecodeError("a value that is longer than its message")
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and the position after it."""
    number = 0
    for index, byte in enumerate(content[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise DecodeError("a number without an end")
