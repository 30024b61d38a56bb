"""Failures as gRPC status with google.rpc details, both ways: raised by a servicer, read by the caller of a stage.

A servicer raises `StatusError`; the interceptor of `calls.py` turns it into the status. It knows no servicer.
Details follow AIP-193: ErrorInfo always; BadRequest, RetryInfo, ResourceInfo, QuotaFailure where they apply;
RequestInfo always.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from csm_bundle import errors
from services.common.telemetry import logs
from services.common.values import seconds

DOMAIN = "csm"

# Clients accept 8 KiB of trailers by default, and lose a larger status entirely. The message is sent twice, once with
# three bytes for each byte that is not ASCII.
MOST_MESSAGE_BYTES = 1000
MOST_VIOLATION_BYTES = 2500
MOST_NAME_BYTES = 200
PUSHBACK_KEY = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request."""

    field: str  # path as the API names it: "context.turns[2].audio.codes"
    description: str  # a sentence: what was given, what is allowed
    reason: str = ""  # UPPER_SNAKE, for programs: "TEXT_EMPTY"


@dataclass(frozen=True, slots=True)
class Resource:
    """A requested resource that does not exist."""

    type: str
    name: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A quota that a caller exceeded."""

    subject: str  # "caller:NAME"
    description: str  # the quota and its limit


class StatusError(Exception):
    """A failure with the code, the reason and the details that the caller gets."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        field_violations: Sequence[FieldViolation] = (),
        retry_delay_s: float | None = None,
        resource: Resource | None = None,
        quota: QuotaViolation | None = None,
        metadata: dict[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        """reason: UPPER_SNAKE, at most 63 characters; metadata: facts for programs, in ErrorInfo."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.field_violations = tuple(field_violations)
        self.retry_delay_s = retry_delay_s
        self.resource = resource
        self.quota = quota
        self.metadata = metadata or {}
        self.request_id = request_id


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: StatusError) -> NoReturn:
    """Ends the call with `error`, its details, and the trailing metadata that the handler has set.

    Raises gRPC's AbortError, which must not be caught.
    """
    status = rpc_status.to_status(_to_proto(error))
    trailers = (*(context.trailing_metadata() or ()), *status.trailing_metadata)
    if error.retry_delay_s is not None:
        trailers += ((PUSHBACK_KEY, str(round(error.retry_delay_s * 1000))),)
    await context.abort(status.code, status.details, trailers)


def _to_proto(error: StatusError) -> status_pb2.Status:
    return status_pb2.Status(
        code=error.code.value[0],
        message=_cut(error.message, MOST_MESSAGE_BYTES),
        details=[_pack(detail) for detail in _details(error)],
    )


def _details(error: StatusError) -> Iterable[message.Message]:
    bad_request = _bad_request(error.field_violations)
    left_out = len(error.field_violations) - len(bad_request.field_violations)
    counted = {"field_violations_left_out": str(left_out)} if left_out else {}
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata | counted)
    if error.field_violations:
        yield bad_request
    if error.retry_delay_s is not None:
        yield error_details_pb2.RetryInfo(retry_delay=seconds(error.retry_delay_s))
    if error.resource is not None:
        name = _cut(error.resource.name, MOST_NAME_BYTES)
        yield error_details_pb2.ResourceInfo(resource_type=error.resource.type, resource_name=name)
    if error.quota is not None:
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.quota.subject, description=error.quota.description
        )
        yield error_details_pb2.QuotaFailure(violations=[violation])
    if request_id := error.request_id or logs.request_id.get():
        yield error_details_pb2.RequestInfo(request_id=request_id)


def _bad_request(violations: Iterable[FieldViolation]) -> error_details_pb2.BadRequest:
    """The first violations, as many as fit."""
    made = error_details_pb2.BadRequest()
    for violation in violations:
        made.field_violations.add(field=violation.field, description=violation.description, reason=violation.reason)
        if made.ByteSize() > MOST_VIOLATION_BYTES:
            del made.field_violations[-1]
            break
    return made


def _cut(text: str, most_bytes: int) -> str:
    """The text, or its beginning and an ellipsis."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - 3].decode(errors="ignore") + "..."


def _pack(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def from_rpc_error(error: grpc.aio.AioRpcError) -> StatusError:
    """The error of a failed call. Without details its reason is the code's name."""
    plain = StatusError(error.code(), error.code().name, error.details() or error.code().name)
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
        return plain if status is None else _with_details(status, plain)
    except (ValueError, message.DecodeError):  # of another status, which a proxy has replaced, or unreadable
        return plain


def _with_details(status: status_pb2.Status, plain: StatusError) -> StatusError:
    """plain: the same without details. Raises: DecodeError for details that cannot be read."""
    reason, metadata, violations = plain.reason, dict[str, str](), list[FieldViolation]()
    retry_delay_s, resource, request_id = None, None, ""
    for packed in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        resource_info = error_details_pb2.ResourceInfo()
        request_info = error_details_pb2.RequestInfo()
        if packed.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(bad_request):
            violations = [FieldViolation(v.field, v.description, v.reason) for v in bad_request.field_violations]
        elif packed.Unpack(retry):
            retry_delay_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Unpack(resource_info):
            resource = Resource(resource_info.resource_type, resource_info.resource_name)
        elif packed.Unpack(request_info):
            request_id = request_info.request_id
    return StatusError(
        plain.code,
        reason,
        status.message,
        field_violations=violations,
        retry_delay_s=retry_delay_s,
        resource=resource,
        metadata=metadata,
        request_id=request_id,
    )


def from_library_error(error: errors.CsmError) -> StatusError:
    """The status of a failure of the library. Messages of internal failures stay in the log."""
    code = grpc.StatusCode
    match error:
        case errors.InvalidRequestError():
            return wrong_field(error.field, error.message)
        case errors.EngineBusyError() | errors.CodecBusyError():
            return StatusError(code.UNAVAILABLE, "QUEUE_FULL", str(error), retry_delay_s=1.0)
        case errors.EngineStoppedError() | errors.CodecStoppedError():
            return StatusError(code.UNAVAILABLE, "DRAINING", str(error), retry_delay_s=1.0)
        case errors.EngineFaultError():
            return StatusError(code.UNAVAILABLE, "ENGINE_FAULT", str(error), retry_delay_s=1.0)
        case errors.ReadingStalledError():
            return StatusError(code.INTERNAL, "READING_STALLED", str(error))
        case errors.WatermarkError():
            return StatusError(code.INTERNAL, "WATERMARK_FAILED", str(error))
        case errors.CodecError():
            return StatusError(code.UNAVAILABLE, "CODEC_FAULT", str(error), retry_delay_s=1.0)
        case _:
            return internal()


def invalid_argument(violations: Sequence[FieldViolation]) -> StatusError:
    """INVALID_ARGUMENT that names all wrong fields at once; its reason is that of the first."""
    reason = next((v.reason for v in violations if v.reason), "INVALID_REQUEST")
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, reason, message_of(violations), field_violations=violations)


def wrong_field(field: str, description: str, reason: str = "") -> StatusError:
    """INVALID_ARGUMENT for one field; see FieldViolation."""
    return invalid_argument([FieldViolation(field, description, reason)])


def message_of(violations: Sequence[FieldViolation]) -> str:
    """The message of a status that has them: a sentence for each."""
    return " ".join(f"{v.field}: {v.description.removesuffix('.')}." for v in violations)


def internal() -> StatusError:
    """An internal failure, whose cause is only logged, with the request id."""
    return StatusError(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        "The server failed; its log tells why under this request id.",
    )


def unimplemented() -> StatusError:
    """The API has the method, but this server does not."""
    return StatusError(grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNIMPLEMENTED", "This server does not have the method.")
