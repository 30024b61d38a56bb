"""What a server says, as it is printed: without control characters, which could make a terminal do or show anything."""

from __future__ import annotations

import re

from google.protobuf import duration_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")  # those of directions too


def shown(text: object) -> str:
    """The text on one line, its control characters as escapes such as \\x1b."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def name_of(values: EnumTypeWrapper, value: int, prefix: str) -> str:
    """The name of an enum's value, in lower case without the prefix; "unknown (99)" for one of a newer server."""
    if value not in values.values():
        return f"unknown ({value})"
    return str(values.Name(value)).removeprefix(prefix).lower()


def in_seconds(duration: duration_pb2.Duration) -> float:
    """Also of one that is longer than Python's."""
    return float(duration.seconds + duration.nanos / 1e9)
