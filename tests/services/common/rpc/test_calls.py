"""Every failing call carries details; every call has one line in the log, and is counted by its outcome."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csm_bundle.errors import EngineBusyError, InvalidRequestError, ReadingStalledError, WatermarkError
from services.common.rpc import status
from services.common.rpc.calls import is_uuid
from services.common.rpc.server import StageServer
from services.common.settings import StageSettings
from services.common.telemetry import logs
from tests.support.waits import eventually

REQUEST = codec_pb2.GetCodecInfoRequest()
REQUEST_ID = "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11"


class Panic(BaseException):
    """An error such as libraries in Rust raise."""


def raising(error: BaseException) -> Any:
    async def handler(context: Any) -> Any:
        raise error

    return handler


async def failure_of(stage: Any, error: BaseException) -> status.StatusError:
    stage.codec.on_info = raising(error)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stage.stub.GetCodecInfo(REQUEST, metadata=(("x-request-id", REQUEST_ID),))
    trailers: Any = failed.value.trailing_metadata()
    stage.trailers = dict(trailers)
    return status.from_rpc_error(failed.value)


UNREADABLE = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff")
DETAILS = [status_pb2.Status(code=3), status_pb2.Status(code=14, message="why", details=[UNREADABLE])]


@pytest.mark.parametrize("details", [b"\xff", *(one.SerializeToString() for one in DETAILS)])
def test_a_status_whose_details_are_of_another_one_or_unreadable_is_read_without_them(details: bytes) -> None:
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", details))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailers, "why", None)
    read = status.from_rpc_error(error)
    assert (read.code, read.reason, read.message) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "why")


def handled(stage: Any, code: str, method: str = "GetCodecInfo", kind: str = "unary") -> float:
    labels = {"grpc_type": kind, "grpc_service": "csm.codec.v1.CodecService", "grpc_method": method}
    metric = stage.server.metrics.registry.get_sample_value
    return metric("grpc_server_handled_total", labels | {"grpc_code": code}) or 0.0


async def test_status_error_round_trips_with_all_details(stage: Any) -> None:
    sent = status.StatusError(
        grpc.StatusCode.NOT_FOUND,
        "VOICE_NOT_FOUND",
        "There is no voice 'x'.",
        field_violations=[status.FieldViolation("voice.name", "unknown")],
        retry_delay_s=1.5,
        resource=status.Resource("voice", "x"),
        metadata={"known": "a, b"},
    )
    got = await failure_of(stage, sent)
    for name in ("code", "reason", "message", "field_violations", "retry_delay_s", "resource", "metadata"):
        assert getattr(got, name) == getattr(sent, name), name
    assert got.request_id == REQUEST_ID
    assert stage.trailers["grpc-retry-pushback-ms"] == "1500"


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}"])
async def test_status_too_large_for_a_client_is_cut_and_not_lost(stage: Any, letter: str) -> None:
    violations = [status.FieldViolation(f"turns[{index}].text", f"is {letter}.", "WRONG") for index in range(1000)]
    sent = status.invalid_argument(violations)
    sent.resource = status.Resource("voice", letter * 5000)
    got = await failure_of(stage, sent)
    assert (got.code, got.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "WRONG")
    assert sent.message.startswith(got.message.removesuffix("...")) and len(got.message) > 300
    assert got.field_violations == tuple(violations[: len(got.field_violations)]) and len(got.field_violations) > 30
    assert got.metadata["field_violations_left_out"] == str(1000 - len(got.field_violations))
    assert got.resource is not None and got.resource.name.startswith(letter)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidRequestError("segments[0].text", "is empty"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (EngineBusyError("16 of 16 slots are in use."), "UNAVAILABLE", "QUEUE_FULL"),
        (ReadingStalledError("too slow"), "INTERNAL", "READING_STALLED"),
        (WatermarkError("no"), "INTERNAL", "WATERMARK_FAILED"),
        (ZeroDivisionError("secret detail"), "INTERNAL", "INTERNAL"),
        (Panic("secret detail"), "INTERNAL", "INTERNAL"),
        (asyncio.CancelledError("secret detail"), "INTERNAL", "INTERNAL"),  # of something that the handler awaits
        (BaseExceptionGroup("of tasks", [Panic("secret detail")]), "INTERNAL", "INTERNAL"),
    ],
)
@pytest.mark.filterwarnings("default")
async def test_library_errors_become_status_with_details(stage: Any, error: Any, code: str, reason: str) -> None:
    got = await failure_of(stage, error)
    assert (got.code.name, got.reason) == (code, reason)
    assert "secret" not in got.message
    assert handled(stage, code) == 1


async def test_invalid_request_error_names_its_field(stage: Any) -> None:
    got = await failure_of(stage, InvalidRequestError("sampling_params.top_k", "is 0; at least 1."))
    assert got.field_violations == (status.FieldViolation("sampling_params.top_k", "is 0; at least 1."),)


async def test_a_busy_engine_returns_a_retry_delay(stage: Any) -> None:
    got = await failure_of(stage, EngineBusyError("full"))
    assert got.retry_delay_s == 1.0
    assert stage.trailers["grpc-retry-pushback-ms"] == "1000"


async def test_one_line_per_call_with_id_and_reason(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def annotated(context: Any) -> Any:
        logs.annotate(frames=3)
        logging.getLogger("somewhere").info("inside")
        raise EngineBusyError("full")

    stage.codec.on_info = annotated
    caplog.handler.addFilter(logs.RequestIdFilter())
    with caplog.at_level(logging.INFO), pytest.raises(grpc.aio.AioRpcError):
        await stage.stub.GetCodecInfo(REQUEST, metadata=(("x-request-id", REQUEST_ID),))
    records: list[Any] = list(caplog.records)
    lines = [record for record in records if record.name == "csm.rpc"]
    assert len(lines) == 1
    assert lines[0].fields["reason"] == "QUEUE_FULL"
    assert lines[0].fields["frames"] == 3
    inside = next(record for record in records if record.name == "somewhere")
    assert {lines[0].request_id, inside.request_id} == {REQUEST_ID}


async def test_health_watches_are_logged_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    server, request = (
        StageServer(StageSettings(host="127.0.0.1"), [], for_gateways=True),
        health_pb2.HealthCheckRequest(),
    )
    await server.start()
    with caplog.at_level(logging.DEBUG, "csm.rpc"):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel, asyncio.timeout(60):
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(request)
            await watch.read()
            watch.cancel()
            await health.Check(request)
            while len(lines := [record for record in caplog.records if record.msg == "call ended"]) < 2:
                await asyncio.sleep(0.01)
    await server.drain(0)
    assert {record.levelno for record in lines} == {logging.DEBUG}


async def test_malformed_request_id_is_replaced(stage: Any) -> None:
    seen = []

    async def remember(context: Any) -> Any:
        seen.append(logs.request_id.get())
        return codec_pb2.GetCodecInfoResponse()

    stage.codec.on_info = remember
    await stage.stub.GetCodecInfo(REQUEST, metadata=(("x-request-id", "x forged=1"),))
    assert is_uuid(seen[0])


async def ended(stage: Any) -> str:
    return (await eventually(lambda: stage.codec.decode_ended_with))[0]


async def test_cancel_reaches_a_generator_handler_and_is_counted(stage: Any) -> None:
    call = stage.stub.StreamDecode(timeout=60)  # a deadline far away has not passed
    await call.write(codec_pb2.StreamDecodeRequest())
    await call.read()
    call.cancel()
    assert await ended(stage) in {"CancelledError", "GeneratorExit"}
    assert handled(stage, "CANCELLED", "StreamDecode", "bidi_stream") == 1


async def test_deadline_is_counted_as_deadline(stage: Any) -> None:
    for timeout_s in (0.3, 3.0, 30.0):  # on a busy machine the first may pass before the handler has begun
        call = stage.stub.StreamDecode(timeout=timeout_s)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(codec_pb2.StreamDecodeRequest())
            await call.read()
            break
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await ended(stage) in {"CancelledError", "GeneratorExit"}
    assert handled(stage, "DEADLINE_EXCEEDED", "StreamDecode", "bidi_stream") >= 1


async def test_stream_that_ends_is_counted_ok(stage: Any) -> None:
    call = stage.stub.StreamDecode(iter([codec_pb2.StreamDecodeRequest()] * 3))
    assert len([message async for message in call]) == 4
    assert handled(stage, "OK", "StreamDecode", "bidi_stream") == 1


@pytest.mark.parametrize("on_port", ["api", "health"])
async def test_a_method_that_the_server_lacks_is_unimplemented_without_a_traceback(
    stage: Any, caplog: pytest.LogCaptureFixture, on_port: str
) -> None:
    if on_port == "api":
        call = stage.stub.Encode(codec_pb2.EncodeRequest())
    else:
        call = health_pb2_grpc.HealthStub(stage.health_channel).List(health_pb2.HealthListRequest())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = status.from_rpc_error(refused.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNIMPLEMENTED")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_cancelled_call_of_a_draining_server_is_no_failure(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage.codec.on_info = raising(
        cygrpc._ServerStoppedError("Server already stopped.")
    )  # as a read or a write gives it
    call = stage.stub.GetCodecInfo(REQUEST)
    await eventually(lambda: handled(stage, "CANCELLED") + handled(stage, "INTERNAL"))
    call.cancel()
    assert (handled(stage, "INTERNAL"), handled(stage, "CANCELLED")) == (0, 1)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
