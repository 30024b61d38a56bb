"""Bytes that are no message are INVALID_ARGUMENT with a reason, and one line in the log, on every port and method."""

from __future__ import annotations

import asyncio
import logging
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2

from services.common.rpc import status
from services.common.rpc.messages import MOST_VALUES, checked, tolerant
from services.common.telemetry.logs import GRPC_LOGGER, GrpcFilter

NO_MESSAGE = b"\xff\xff\xff\xff"
MESSAGE = codec_pb2.StreamDecodeRequest().SerializeToString()
CODEC = "/csm.codec.v1.CodecService/"
UNARY = ["GetCodecInfo", "Encode", "DetectWatermark"]


async def refusal(call: Any) -> status.StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass
        else:
            await call
    return status.from_rpc_error(failed.value)


def assert_malformed(error: status.StatusError, caplog: pytest.LogCaptureFixture) -> None:
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")
    assert "4 bytes" in error.message
    ours = [record for record in caplog.records if record.name.startswith("csm")]
    assert len(ours) == 1 and ours[0].exc_info is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("method", UNARY)
async def test_a_unary_request_is_refused(stage: Any, caplog: pytest.LogCaptureFixture, method: str) -> None:
    caplog.set_level(logging.INFO)
    error = await refusal(stage.channel.unary_unary(CODEC + method)(NO_MESSAGE))
    assert_malformed(error, caplog)


@pytest.mark.parametrize("before", [0, 2])
async def test_a_message_of_a_stream_is_refused(stage: Any, caplog: pytest.LogCaptureFixture, before: int) -> None:
    caplog.set_level(logging.INFO)

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(before):
            yield MESSAGE
        yield NO_MESSAGE

    error = await refusal(stage.channel.stream_stream(CODEC + "StreamDecode")(requests()))
    assert_malformed(error, caplog)


NO_MEMORY = """
import resource
from pathlib import Path
from csm.codec.v1 import codec_pb2
from services.common.rpc.messages import checked, tolerant
from services.common.rpc.status import StatusError

content = codec_pb2.EncodeRequest(samples=bytes(60 * 2**20)).SerializeToString()
used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 20 * 2**20,) * 2)
try:
    checked(tolerant(codec_pb2.EncodeRequest.FromString)(content))
except StatusError as error:
    print(error.code.name, error.reason)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_a_message_that_cannot_be_read_for_want_of_memory_is_not_called_malformed() -> None:
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, timeout=100)
    assert done.stdout == "UNAVAILABLE MEMORY_SHORT\n", done.stderr


def test_pythons_own_want_of_memory_is_not_raised_to_grpc() -> None:
    def read(content: bytes) -> Any:
        raise MemoryError

    deserialize = tolerant(read)
    assert deserialize is not None
    with pytest.raises(status.StatusError) as refused:
        checked(deserialize(b"1"))
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAVAILABLE, "MEMORY_SHORT")


@pytest.mark.parametrize("before", [0, 2])
async def test_a_message_of_too_many_values_is_refused(stage: Any, before: int) -> None:
    """They are in unknown fields."""

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(before):
            yield MESSAGE
        yield b"\x78\x01" * (MOST_VALUES + 1)

    error = await refusal(stage.channel.stream_stream(CODEC + "StreamDecode")(requests()))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_VALUES")


@pytest.mark.parametrize(
    ("method", "open_call"),
    [
        ("/grpc.health.v1.Health/Check", lambda channel, method: channel.unary_unary(method)(NO_MESSAGE)),
        ("/grpc.health.v1.Health/Watch", lambda channel, method: channel.unary_stream(method)(NO_MESSAGE)),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            lambda channel, method: channel.stream_stream(method)(iter([NO_MESSAGE])),
        ),
    ],
)
async def test_the_health_port_refuses_messages_of_too_many_values(
    stage: Any, caplog: pytest.LogCaptureFixture, method: str, open_call: Callable[[Any, str], Any]
) -> None:
    caplog.set_level(logging.INFO)
    assert_malformed(await refusal(open_call(stage.health_channel, method)), caplog)


async def test_metadata_that_is_not_utf8_is_not_logged_raw(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Sent by an HTTP/2 client that does not validate what it sends."""
    caplog.set_level(logging.INFO)
    logger, guard = logging.getLogger(GRPC_LOGGER), GrpcFilter()
    logger.addFilter(guard)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        headers = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": CODEC.encode() + b"GetCodecInfo",
            b":authority": b"x",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            b"x-request-id": b"\xff\x1b[31mred",
        }
        block = b"".join(b"\0" + bytes([len(key)]) + key + bytes([len(v)]) + v for key, v in headers.items())
        request = _frame(0x4, 0, 0, b"") + _frame(0x1, 0x4, 1, block) + _frame(0x0, 0x1, 1, bytes(5))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + request)
        async with asyncio.timeout(20):
            await reader.readuntil(b"grpc-status")
        writer.close()
        await writer.wait_closed()
    finally:
        logger.removeFilter(guard)
    lines = [record.getMessage() for record in caplog.records]
    assert "the metadata of a call is not UTF-8" in lines
    assert all("\x1b" not in line and "\\x1b" not in line for line in (*lines, caplog.text))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, 4.1"""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def test_other_log_lines_of_grpc_are_kept() -> None:
    record = logging.LogRecord("grpc", logging.ERROR, "", 1, "Something %s", ("else",), None)
    assert GrpcFilter().filter(record) and record.getMessage() == "Something else"


def test_an_answer_to_a_cancelled_call_logs_no_traceback() -> None:
    """The gRPC library's log entry for a status that comes after the call's end."""
    try:
        raise RuntimeError("execute_batch")
    except RuntimeError:
        message = "ExecuteBatchError raised in core by servicer method [/grpc.health.v1.Health/Watch]"
        record = logging.LogRecord(GRPC_LOGGER, logging.ERROR, "f.py", 1, message, (), sys.exc_info())
    assert GrpcFilter().filter(record)
    assert (record.getMessage(), record.levelname, record.exc_info) == (
        "a caller has left before its answer",
        "INFO",
        None,
    )
