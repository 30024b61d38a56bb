"""Every error the client raises, as one tree, made from gRPC status and its google.rpc details.

* CsmClientError
  + ServerError                   the server answered with a status; has code, reason, request_id
    - InvalidRequestError         a field is wrong; has field_violations
    - UnauthenticatedError        the server wants a token, or does not know this one
    - NotFoundError               a voice is not there, or not for this caller
    - UnavailableError            no server can take the call now; has retry_delay_s
    - DeadlineExceededError       the audio was not ready in time
    - ResourceExhaustedError      too large a message, too slow a reader, more streams or voices than it may have
    - InternalServerError         the server failed
  + IncompleteAudioError          the stream ended before its summary; has received_sample_count
  + ClientClosedError             the client was closed before the call
  + TlsFileError                  a certificate or key cannot be used
  + TokenError                    a token cannot be read, or must not go out in plaintext
  + ContextFileError              a conversation file cannot be read
  + OutputFileError               a file cannot be written, or cannot hold the encoding
  + InputTextError                standard input cannot be read, or is not UTF-8
  + PlayerError                   sound cannot be played
  + SpeakerError                  no voice has the speaker asked for
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class CsmClientError(Exception):
    """Root of the tree."""


class ClientClosedError(CsmClientError):
    """The client was closed before the call."""


class TlsFileError(CsmClientError):
    """A certificate or key cannot be used; the message names the file."""


class TokenError(CsmClientError):
    """A token cannot be read, or must not go out in plaintext; it is never in the message."""


class ContextFileError(CsmClientError):
    """A conversation file cannot be read; the message names file and turn."""


class OutputFileError(CsmClientError):
    """A file cannot be written, or cannot hold the encoding asked for; the message says why."""


class InputTextError(CsmClientError):
    """A text cannot be read from standard input, or is not UTF-8."""


class RecordingFileError(CsmClientError):
    """A recording's file and the sample rate given for it do not fit; the message says why."""


class PlayerError(CsmClientError):
    """Sound cannot be played; the message says what to install, or what has failed."""


class SpeakerError(CsmClientError):
    """No voice has the speaker asked for; the message says which there are."""


class IncompleteAudioError(CsmClientError):
    """The stream ended before its summary: what came is not the whole utterance. The cause, if any, is chained."""

    def __init__(self, message: str, received_sample_count: int) -> None:
        super().__init__(message)
        self.received_sample_count = received_sample_count


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request."""

    field: str  # path in csm/v1/tts.proto: "sampling_params.top_k"
    description: str


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """The details that a server sent with a status."""

    reason: str = ""  # UPPER_SNAKE
    request_id: str = ""
    field_violations: tuple[FieldViolation, ...] = ()
    retry_delay_s: float | None = None


class ServerError(CsmClientError):
    """A status other than OK, from the server or from gRPC on its behalf."""

    def __init__(self, code: grpc.StatusCode, message: str, details: ErrorDetails) -> None:
        super().__init__(message)
        self.code = code
        self.reason = details.reason or code.name
        self.request_id = details.request_id
        self.field_violations = details.field_violations
        self.retry_delay_s = details.retry_delay_s


class InvalidRequestError(ServerError):
    """Fields of the request are wrong; `field_violations` has them all."""


class UnauthenticatedError(ServerError):
    """The server wants a token, or does not know the one that was sent."""


class NotFoundError(ServerError):
    """A requested name does not exist."""


class UnavailableError(ServerError):
    """No server can take the call now; another attempt may go through after `retry_delay_s`."""


class DeadlineExceededError(ServerError):
    """The deadline passed."""


class ResourceExhaustedError(ServerError):
    """A message is too large, the client reads too slowly, or its token has as many streams as it may (`reason` is
    QUOTA_EXCEEDED then, and another attempt may go through after `retry_delay_s`).
    """


class InternalServerError(ServerError):
    """The server failed; its log has more under `request_id`."""


def is_wordless(error: CsmClientError) -> bool:
    """Whether the only problem is a text without words, such as one of punctuation, spaces and emoji."""
    if not isinstance(error, ServerError) or error.reason != "TEXT_EMPTY":
        return False
    return [violation.field for violation in error.field_violations] in (["text"], ["input.text"])


_BY_CODE: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.INTERNAL: InternalServerError,
}


def from_rpc_error(error: grpc.RpcError) -> ServerError:
    """The typed error of a failed call, synchronous or not."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        raise TypeError(f"{type(error).__name__} has no status")
    code = error.code()
    message = error.details() or f"The call ended with {code.name}."
    if code is grpc.StatusCode.UNAVAILABLE:
        message = _explain(message)
    elif "Deadline Exceeded" in message:  # gRPC's own words, such as "Stream removed (Deadline Exceeded)"
        message = _DEADLINE_PASSED
    return _BY_CODE.get(code, ServerError)(code, message, _details(error))


_DEADLINE_PASSED = "The deadline passed; set a longer one, or ask for less audio."


def deadline_passed() -> ServerError:
    """The error of a call whose deadline has passed, where gRPC does not tell."""
    return DeadlineExceededError(grpc.StatusCode.DEADLINE_EXCEEDED, _DEADLINE_PASSED, ErrorDetails())


def cancelled_here() -> ServerError:
    """The error of a call that this client cancelled."""
    return ServerError(grpc.StatusCode.CANCELLED, "The call was cancelled.", ErrorDetails())


def is_task_cancelled() -> bool:
    """Whether the current task is cancelled, and not only its call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


# Messages of gRPC for servers that no call reaches, and what each means.
_EXPLAINED = (
    ("backend unhealthy", "none of the servers is ready"),
    ("health check call failed", "no server tells whether it is ready; a proxy may refuse to pass the question"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not of an authority that is trusted here"),
    ("BAD_SIGNATURE", "the server's certificate is not of an authority that is trusted here, though of the same name"),
    ("Hostname Verification Check failed", "the server's certificate is for another name"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS"),
    ("Socket closed", "the server hung up; it may want TLS, or a client certificate that it trusts"),
)


def _explain(message: str) -> str:
    if "last error: " not in message:  # an established connection was lost, or a server answered
        return message
    for words, meaning in _EXPLAINED:
        if words in message:
            return f"{meaning} ({message})"
    return message


def _details(error: grpc.Call | grpc.aio.AioRpcError) -> ErrorDetails:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):  # a proxy has replaced the status, and the details do not belong to it
        status = None
    reason, request_id = "", ""
    violations: tuple[FieldViolation, ...] = ()
    retry_delay_s: float | None = None
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        request_info = error_details_pb2.RequestInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if _unpack(packed, info):
            reason = info.reason
        elif _unpack(packed, request_info):
            request_id = request_info.request_id
        elif _unpack(packed, bad_request):
            violations = tuple(FieldViolation(v.field, v.description) for v in bad_request.field_violations)
        elif _unpack(packed, retry):
            retry_delay_s = retry.retry_delay.ToNanoseconds() / 1e9
    return ErrorDetails(reason, request_id, violations, retry_delay_s)


def _unpack(packed: Any, message: Message) -> bool:
    """Whether the detail is of the message's type and valid; then the message is set."""
    try:
        return bool(packed.Unpack(message))
    except DecodeError:
        return False
