"""How many values the bytes of a message hold, counted before it is parsed. It knows no service.

Each value costs memory and time, however short it is: 16 MiB of empty turns are eight million values, which take
450 MiB once they are parsed, and seconds of the event loop to look at. Bytes and texts are one value each.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

MOST_VALUES = 20_000
_LEAST_BYTES = 2  # of a value

_VARINT, _LENGTH = 0, 2  # wire types
_FIXED_BYTES = {1: 8, 5: 4}  # by wire type
_MOST_VARINT_BYTES = 10


def has_too_many_values(content: bytes, kind: Descriptor) -> bool:
    """Whether a message of this kind has more than MOST_VALUES, those of the messages within it included.

    Raises DecodeError for bytes that are no message.
    """
    return len(content) > MOST_VALUES * _LEAST_BYTES and _count(content, kind) > MOST_VALUES


def _count(content: bytes, kind: Descriptor) -> int:
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
