"""Calls that gRPC's clients refuse to make: HTTP/2 written by hand, with any bytes as values of metadata.

Every header is a literal without Huffman code (RFC 7541, 6.2.2), and so are the first ones that gRPC's servers answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_LONGEST = 126  # bytes of a name or a value, whose length is one byte then
_STATUS = re.compile(rb"grpc-status[\x01\x02]([0-9]{1,2})")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def raw_call(path: str, metadata: Sequence[tuple[str, bytes]]) -> bytes:
    """What a connection carries for one call of one empty message. Values have 126 bytes at most."""
    fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "fuzz", "te": "trailers"}
    fixed["content-type"] = "application/grpc"
    headers = [*((name, value.encode()) for name, value in fixed.items()), *metadata]
    block = b"".join(b"\0" + _string(name.encode()) + _string(value) for name, value in headers)
    return (
        PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, bytes(5))
    )


def status_in(answer: bytes) -> grpc.StatusCode | None:
    """The status of the first call of a connection; None while it has not come."""
    found = _STATUS.search(answer)
    return None if found is None else _CODES[int(found[1])]


def _string(content: bytes) -> bytes:
    if len(content) > _LONGEST:
        raise ValueError(f"a header of {len(content)} bytes; at most {_LONGEST} are written")
    return bytes([len(content)]) + content


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content
