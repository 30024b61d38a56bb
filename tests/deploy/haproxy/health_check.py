"""The bytes of a gRPC health check over plaintext HTTP/2, which HAProxy has no check for: what `tcp-check` sends."""

from __future__ import annotations

from grpc_health.v1 import health_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA = 4, 1, 0  # types of frames, RFC 9113
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: str) -> bytes:
    """A header field without indexing and without Huffman's code, RFC 7541; name: its representation"""
    return name + bytes([len(value)]) + value.encode()


def message(proto: health_pb2.HealthCheckRequest | health_pb2.HealthCheckResponse) -> bytes:
    """As gRPC frames it: not compressed, its length, its bytes."""
    content = proto.SerializeToString()
    return b"\0" + len(content).to_bytes(4, "big") + content


def request(service: str) -> bytes:
    """A whole connection with one call of Check."""
    headers = b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            literal(b"\x04", "/grpc.health.v1.Health/Check"),  # :path
            literal(b"\x01", "gateway"),  # :authority
            literal(b"\x0f\x10", "application/grpc"),  # content-type
            literal(b"\x00\x02te", "trailers"),
        )
    )
    body = message(health_pb2.HealthCheckRequest(service=service))
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, headers)
        + frame(DATA, END_STREAM, 1, body)
    )


def answer(status: health_pb2.HealthCheckResponse.ServingStatus) -> bytes:
    """The message of an answer, which stands somewhere in what comes back."""
    return message(health_pb2.HealthCheckResponse(status=status))
