"""Hypothesis strategies: what a descriptor allows, valid requests with wrong fields, and bytes that are no message.

It knows no method by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from bench.fuzz.methods import Method

MOST_DEPTH = 4
MOST_REPEATED = 3
MOST_MESSAGES = 4  # in one call
LONG = 70_000  # characters or bytes: longer than any limit of a field, shorter than that of a message

Draw = st.DrawFn

_INT32 = st.one_of(st.sampled_from([0, 1, -1, 2, 24_000, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1))
_INT64 = st.one_of(st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
_FLOAT = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 3.0e38]), st.floats(width=32))
_TEXT = st.one_of(
    st.sampled_from(["", " ", "\0", "Hello there.", "en", "readiness", "../..", "%s%n", "\u202e", "1" * 300]),
    st.text(max_size=40),
    st.builds(lambda character: character * LONG, st.sampled_from(["a", "é", ". ", "7"])),
)
_BYTES = st.one_of(
    st.sampled_from([b"", b"\0", bytes(9600), b"RIFF\xff\xff\xff\xffWAVEfmt ", b"OggS" + bytes(40)]),
    st.binary(max_size=300),
    st.just(bytes(LONG)),
)
_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: _INT32,
    FieldDescriptor.CPPTYPE_INT64: _INT64,
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: _FLOAT,
    FieldDescriptor.CPPTYPE_FLOAT: _FLOAT,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.one_of(st.integers(0, 12), _INT32),
}

# Wire formats that a parser must survive: an endless varint, a length beyond the end, groups, nesting.
_HOSTILE = st.sampled_from(
    [b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 200, b"\x0a\x02" * 500, b"\x08", b"\x00\x00", b"\x0a\x01\xff"]
)


@dataclass(frozen=True)
class Call:
    """One call: its messages as bytes, and how its caller behaves."""

    method: Method
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout_s: float
    most_responses: int  # read before the caller leaves
    half_closes: bool  # otherwise it waits for its deadline, with its last message unsent


@dataclass(frozen=True)
class RawCall:
    """A call without a message, whose metadata gRPC's clients refuse to send."""

    method: Method
    metadata: tuple[tuple[str, bytes], ...]


def raw_calls(methods: Sequence[Method]) -> st.SearchStrategy[RawCall]:
    """Values are any bytes. Names are those that a server reads; gRPC itself answers those that are not allowed."""
    names = ["x-request-id", "authorization", "traceparent", "tracestate", "baggage", "user-agent", "csm-request-bytes"]
    values = st.one_of(st.binary(max_size=60), st.text(max_size=15).map(str.encode))
    metadata = st.lists(st.tuples(st.sampled_from(names), values), min_size=1, max_size=3)
    return st.builds(RawCall, st.sampled_from(methods), metadata.map(tuple))


def calls(methods: Sequence[Method], valid: Mapping[str, Sequence[Message]]) -> st.SearchStrategy[Call]:
    """Calls. valid: valid requests by the last part of the method's path."""

    @st.composite
    def call(draw: Draw) -> Call:
        method = draw(st.sampled_from(methods))
        known = [m for m in valid.get(method.path.rsplit("/", 1)[1], ()) if m.DESCRIPTOR is method.request]
        if method.streams_requests:
            messages = draw(_conversation(method, known))
        else:
            messages = draw(st.lists(_payload(method, known), min_size=1, max_size=1))
        return Call(
            method,
            tuple(messages),
            tuple(draw(_METADATA)),
            draw(st.sampled_from([2.0, 2.0, 2.0, 0.1])),
            draw(st.sampled_from([0, 1, 3, 1000])),
            draw(st.sampled_from([True] * 9 + [False])),
        )

    return call()


def _conversation(method: Method, known: Sequence[Message]) -> st.SearchStrategy[list[bytes]]:
    """Messages in any order, or valid ones in the right order, each followed by one that may be wrong."""

    @st.composite
    def in_order(draw: Draw) -> list[bytes]:
        messages: list[bytes] = []
        for message in known:
            messages.append(draw(st.one_of(st.just(message.SerializeToString()), _mutated(message))))
            messages += draw(st.lists(_payload(method, known), max_size=1))
        return messages

    return st.one_of(in_order(), st.lists(_payload(method, known), max_size=MOST_MESSAGES))


def _payload(method: Method, known: Sequence[Message]) -> st.SearchStrategy[bytes]:
    """The bytes of one message."""
    ways: list[st.SearchStrategy[bytes]] = [st.binary(max_size=200), _HOSTILE]
    if method.request is not None:
        made = messages(method.request)
        ways += [made.map(lambda message: message.SerializeToString()), made.flatmap(_damaged)]
    for message in known:
        ways += [st.just(message.SerializeToString()), _mutated(message), _mutated(message), _damaged(message)]
    return st.one_of(ways)


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages that the descriptor allows; most fields are unset."""

    @st.composite
    def message(draw: Draw) -> Message:
        made: Message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if draw(st.integers(0, 2)) == 0:
                _set(draw, made, field, depth)
        return made

    return message()


@st.composite
def _mutated(draw: Draw, message: Message) -> bytes:
    """A valid message with one to three fields, at any depth, replaced or removed."""
    changed: Any = type(message)()
    changed.CopyFrom(message)
    for _ in range(draw(st.integers(1, 3))):
        place, depth = changed, 0
        while inner := [value for field, value in place.ListFields() if _is_single_message(field)]:
            if draw(st.booleans()):
                break
            place, depth = draw(st.sampled_from(inner)), depth + 1
        field: Any = draw(st.sampled_from(list(place.DESCRIPTOR.fields)))
        place.ClearField(field.name)
        if draw(st.integers(0, 4)):
            _set(draw, place, field, depth)
    return changed.SerializeToString()


@st.composite
def _damaged(draw: Draw, message: Message) -> bytes:
    """The bytes of a message, some of them flipped, repeated or cut off."""
    content = bytearray(message.SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["flip", "insert", "cut", "double"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del content[at:]
            case _:
                content[at:at] = content[at : at + 64]
    return bytes(content)


def _is_single_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated


def _set(draw: Draw, message: Message, field: FieldDescriptor, depth: int) -> None:
    """Sets the field to a value that its type allows."""
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value.update(draw(st.dictionaries(_TEXT, _TEXT, max_size=MOST_REPEATED)))
    elif field.message_type is not None:
        if depth < MOST_DEPTH:
            inner = messages(field.message_type, depth + 1)
            if field.is_repeated:
                value.extend(draw(st.lists(inner, max_size=MOST_REPEATED)))
            else:
                value.CopyFrom(draw(inner))
    elif field.is_repeated:
        value.extend(draw(st.lists(_scalar(field), max_size=MOST_REPEATED)))
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _TEXT
    return _SCALARS[field.cpp_type]


_PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
_METADATA = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["x-request-id", "authorization", "traceparent", "tracestate", "x-a"]), _PRINTABLE),
        st.tuples(st.sampled_from(["x-a-bin", "grpc-trace-bin", "grpc-tags-bin"]), st.binary(max_size=60)),
    ),
    max_size=2,
)
