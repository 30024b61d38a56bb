"""Messages as they came: their size, and INVALID_ARGUMENT for bytes that are none, or too many values. It knows no
service.

When a deserializer raises, gRPC logs a traceback and passes None to the handler, or ends the call as UNKNOWN. So the
deserializers here never raise. `checked` raises the status where the request is read.

Values are counted before a message is parsed. Each costs memory and time, however short it is: 16 MiB of empty turns
are eight million values, which take 450 MiB once they are parsed, and seconds of the event loop to look at. Bytes and
texts are one value each.
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
_LEAST_BYTES = 2  # of a value

_VARINT, _LENGTH = 0, 2  # wire types
_FIXED_BYTES = {1: 8, 5: 4}  # by wire type
_MOST_VARINT_BYTES = 10

Deserialize = Callable[[bytes], Any]
Kind = Any  # a Descriptor: of protobuf's Python or of upb, by how protobuf was built


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


def _kind_of(deserialize: Deserialize) -> Kind | None:
    """Of the messages that it makes; None where they stay bytes."""
    owner = getattr(deserialize, "__self__", None)  # FromString is a method of the message's class
    if not (isinstance(owner, type) and issubclass(owner, Message)):
        return None
    return owner.DESCRIPTOR


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


def has_too_many_values(content: bytes, kind: Kind) -> bool:
    """Whether a message of this kind has more than MOST_VALUES, those of the messages within it included.

    Raises DecodeError for bytes that are no message.
    """
    return len(content) > MOST_VALUES * _LEAST_BYTES and _count(content, kind) > MOST_VALUES


def _count(content: bytes, kind: Kind) -> int:
    """It counts no further than one above MOST_VALUES."""
    count, at = 0, 0
    within = [(kind, len(content))]  # the messages that `at` lies in, and their ends
    while within and count <= MOST_VALUES:
        kind, end = within[-1]
        if at == end:
            within.pop()
            continue
        count += 1
        key, at = _varint(content, at)
        wire_type = key & 7
        if wire_type == _VARINT:
            _, at = _varint(content, at)
        elif wire_type == _LENGTH:
            size, at = _varint(content, at)
            field = kind.fields_by_number.get(key >> 3) if key < 2**32 else None
            if field is not None and field.message_type is not None and at + size <= end:
                within.append((field.message_type, at + size))
            else:
                at += size
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:  # a group, which no message here has: its end is not known
            raise DecodeError("a group")
        if at > end:
            raise DecodeError("a value that is longer than its message")
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    number = 0
    for index, byte in enumerate(content[at : at + _MOST_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise DecodeError("a number without an end")
