"""Bytes that are no message: INVALID_ARGUMENT with a reason, and one line in the log, on every port and method."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.common.rpc import status
from services.common.telemetry.logs import RawMetadataFilter

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
async def test_so_it_is_on_the_health_port(
    stage: Any, caplog: pytest.LogCaptureFixture, method: str, open_call: Callable[[Any, str], Any]
) -> None:
    caplog.set_level(logging.INFO)
    assert_malformed(await refusal(open_call(stage.health_channel, method)), caplog)


def test_metadata_that_is_not_utf8_is_not_logged_raw() -> None:
    record = logging.LogRecord(
        "grpc", logging.ERROR, "", 1, "Invalid encoding on %s", (b"\xff\x1b[31m",), (ValueError, ValueError(), None)
    )
    assert RawMetadataFilter().filter(record)
    assert record.getMessage() == "the metadata of a call is not UTF-8" and record.exc_info is None


def test_other_lines_of_the_library_stay() -> None:
    record = logging.LogRecord("grpc", logging.ERROR, "", 1, "Something %s", ("else",), None)
    assert RawMetadataFilter().filter(record) and record.getMessage() == "Something else"


def test_the_bytes_are_no_message() -> None:
    for message in (codec_pb2.GetCodecInfoRequest, engine_pb2.GenerateRequest):
        with pytest.raises(Exception, match=".*"):
            message.FromString(NO_MESSAGE)
