"""Errors in the format of OpenAI's API: {"error": {message, type, param, code}}, with the HTTP status and Retry-After.

Errors of the gRPC client are converted, and paths of the gateway's fields are translated to those of the HTTP body.
"""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from csm_client import CsmClientError, IncompleteAudioError, ServerError, TokenError
from pydantic_core import ErrorDetails

log = logging.getLogger("csm.http")

INVALID = "invalid_request_error"
SERVER = "server_error"
RETRY_S = 1.0  # where the gateway names no other time
SPREAD = 0.5  # of that time, at most, is added: callers refused together would come back together, and be refused again
NONE_SERVES = "backend unhealthy"  # gRPC's words for servers that answer, and report NOT_SERVING
MOST_PROBLEMS = 20  # that a message names
MOST_BITS = 128  # of a whole number that a message repeats
MOST_SHOWN = 100  # characters of a value, or of the name of an unknown field, that an answer repeats
LONGEST_MESSAGE = 4000  # characters; callers' own values may be in it

_STATUS: Mapping[grpc.StatusCode, tuple[int, str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, INVALID),
    grpc.StatusCode.OUT_OF_RANGE: (400, INVALID),
    grpc.StatusCode.UNAUTHENTICATED: (401, "authentication_error"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "permission_error"),
    grpc.StatusCode.NOT_FOUND: (404, INVALID),
    grpc.StatusCode.ALREADY_EXISTS: (409, INVALID),
    grpc.StatusCode.FAILED_PRECONDITION: (400, INVALID),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "rate_limit_error"),
    grpc.StatusCode.CANCELLED: (499, INVALID),
    grpc.StatusCode.UNIMPLEMENTED: (501, SERVER),
    grpc.StatusCode.UNAVAILABLE: (503, SERVER),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, SERVER),
}
# Reasons with another HTTP status than their code: mostly faults of the deployment, not of the caller.
_STATUS_OF_REASON: Mapping[str, tuple[int, str]] = {
    "ENGINE_MISMATCH": (503, SERVER),
    "CODEC_MISMATCH": (503, SERVER),
    "ENGINE_TOO_OLD": (501, SERVER),
    "CODEC_TOO_OLD": (501, SERVER),
    "VOICES_OFF": (501, SERVER),
    "VOICE_BROKEN": (500, SERVER),
    "TEXT_STALLED": (408, INVALID),  # the caller's fault, though its code is DEADLINE_EXCEEDED
}
# Paths in csm/v1/tts.proto, and the body's fields.
_FIELDS = (
    (re.compile(r"^config\."), ""),
    (re.compile(r"^input\.text$|^text(\.text)?$"), "input"),
    (re.compile(r"^input\.speaker$"), "speaker"),
    (re.compile(r"^voice\.name$"), "voice"),
    (re.compile(r"^voice\.language_code$"), "language"),
    (re.compile(r"^audio_config\.audio_encoding$"), "response_format"),
    (re.compile(r"^audio_config\.sample_rate_hertz$"), "sample_rate"),
    (re.compile(r"^(audio_config|sampling_params)\."), ""),
    (re.compile(r"^max_audio_duration$"), "max_audio_seconds"),
    (re.compile(r"^context\.turns\["), "context["),
    (re.compile(r"^(context\[\d+\])\.audio\.(sealed_)?codes.*"), r"\1.codes"),
    (re.compile(r"^(context\[\d+\])\.audio\..*"), r"\1.audio"),
    (re.compile(r"^context\.turns$"), "context"),
    (re.compile(r"^prompt\.text$"), "text"),
    (re.compile(r"^prompt\.audio\.(sealed_)?codes.*"), "codes"),
    (re.compile(r"^prompt(\.audio.*)?$"), "audio"),
    (re.compile(r"^language_codes$"), "languages"),
    (re.compile(r"^recording\..*|^config\.audio_format.*|^audio_(content|format).*"), "file"),
)


class ApiError(Exception):
    """An error response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str,
        retry_after_s: float | None = None,
    ) -> None:
        """kind: OpenAI's `type`; param: the body's field; code: a word for programs"""
        if len(message) > LONGEST_MESSAGE:
            message = message[: LONGEST_MESSAGE - 1] + "\N{HORIZONTAL ELLIPSIS}"
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, and spread in the milliseconds that OpenAI's clients prefer."""
        if self.retry_after_s is None:
            return {}
        spread_ms = self.retry_after_s * 1000 * random.uniform(1.0, 1.0 + SPREAD)
        return {
            "retry-after": str(max(1, math.ceil(self.retry_after_s))),
            "retry-after-ms": str(max(1, round(spread_ms))),
        }


TOO_SLOW = ApiError(408, "The client does not read.", code="client_too_slow")
LEFT = ApiError(499, "The client has closed its connection.", code="cancelled")  # these two for the log alone
VANISHED = ApiError(499, "The client's machine does not answer.", code="client_lost")


def wrong_field(field: str, why: str, *, status: int = 400, code: str = "invalid_value") -> ApiError:
    """why: what was given and what is allowed"""
    return ApiError(status, f"{field}: {why}", param=field, code=code)


def unknown_model(name: str, known: Iterable[str]) -> ApiError:
    why = f"is '{name[:MOST_SHOWN]}'; the models are {', '.join(known)}."
    return wrong_field("model", why, status=404, code="model_not_found")


def unavailable(message: str, code: str) -> ApiError:
    """An error of this server that is soon over."""
    return ApiError(503, message, kind=SERVER, code=code, retry_after_s=RETRY_S)


def body_field(path: str) -> str:
    """Translates a field path of the gateway into one of the body."""
    for pattern, name in _FIELDS:
        path = pattern.sub(name, path, count=1)
    return path


def failed() -> ApiError:
    """The answer to an unexpected error, whose details are only logged."""
    return ApiError(500, "The server failed.", kind=SERVER, code="internal")


def from_client_error(error: CsmClientError) -> ApiError:
    """The error of a call to the gateway."""
    if isinstance(error, IncompleteAudioError):
        cause = error.__cause__
        if isinstance(cause, ServerError):
            return from_client_error(cause)
        return ApiError(502, str(error), kind=SERVER, code="incomplete_audio")
    if isinstance(error, TokenError):
        return ApiError(401, str(error), kind="authentication_error", code="credential_invalid")
    if not isinstance(error, ServerError):
        return failed()
    status, kind = _STATUS_OF_REASON.get(error.reason) or _STATUS.get(error.code, (500, SERVER))
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and error.reason == error.code.name:
        status, kind = 413, INVALID  # gRPC's own: a message is too large
    fields = [(body_field(violation.field), violation.description) for violation in error.field_violations]
    message = " ".join(f"{field}: {_ended(why)}" for field, why in fields) or str(error)
    if error.code is grpc.StatusCode.UNAVAILABLE and error.reason == error.code.name:
        message = _without_gateway(message)
    param = fields[0][0] if fields else None
    if error.reason == "VOICE_NOT_FOUND" and param is None:
        param = "voice"
    if error.reason == "VOICE_EXISTS":
        param = "name"
    delay_s = error.retry_delay_s
    if delay_s is None and status == 503:
        delay_s = RETRY_S
    return ApiError(status, message, kind=kind, param=param, code=error.reason.lower(), retry_after_s=delay_s)


def _without_gateway(words: str) -> str:
    """The message when no gateway has answered. words: gRPC's, which name the gateway's address; the log has them"""
    if NONE_SERVES in words:
        return "No gateway is ready: they start or stop, or their engine or codec is missing or of another bundle."
    log.warning("the gateway is not reached: %s", words)
    return "The gateway does not answer, or the connection to it broke; call again."


def from_validation(problems: Iterable[ErrorDetails], whole: str = "body") -> ApiError:
    """pydantic's errors as one error that names at most MOST_PROBLEMS fields. whole: what the fields belong to"""
    found = [(_path(problem), problem) for problem in problems]
    named = found[:MOST_PROBLEMS]
    sentences = [
        f"{path}: {_sentence(problem, whole)}" if path else _sentence(problem, whole) for path, problem in named
    ]
    if more := len(found) - len(named):
        sentences.append(f"and {more} more.")
    first_path, first = found[0]
    codes = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
    code = codes.get(first["type"], "invalid_value")
    return ApiError(400, " ".join(sentences), param=first_path or None, code=code)


def _path(problem: ErrorDetails) -> str:
    if problem["type"] == "json_invalid":  # its `loc` is a position in the text, not a path
        return ""
    names = [part for part in problem["loc"] if part != "body"]
    parts = [f"[{name}]" if isinstance(name, int) else f".{name[:MOST_SHOWN]}" for name in names]
    return "".join(parts).removeprefix(".")


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."


def _sentence(problem: ErrorDetails, whole: str) -> str:
    match problem["type"]:
        case "missing":
            return "is missing." if _path(problem) else f"The {whole} is missing."
        case "extra_forbidden":
            return "is no parameter that this server knows."
        case "json_invalid":
            return f"The {whole} is no JSON: {problem.get('ctx', {}).get('error', '')}."
        case "model_type" | "model_attributes_type" if _path(problem):
            return "must be a JSON object."
        case "model_type":
            return f"The {whole} must be a JSON object."
        case "model_attributes_type":
            return "The body must be a JSON object, and the header Content-Type application/json."
        case "union_tag_invalid":
            return f"is '{problem['ctx']['tag'][:MOST_SHOWN]}'; it must be one of {problem['ctx']['expected_tags']}."
        case "string_unicode":
            return "must be valid Unicode; it has half of a surrogate pair."
        case "string_too_long":
            return f"has {len(problem['input'])} characters; at most {problem['ctx']['max_length']} are allowed."
        case "int_type" if isinstance(problem["input"], float):
            return f"is {problem['input']}; it must be a whole number, without a point and without an exponent."
    words = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".") + "."
    return f"is {shown}; it {words}" if (shown := _shown(problem.get("input"))) else words


def _shown(given: object) -> str:
    """A number or boolean as text; "" for anything else, which may be long or secret."""
    match given:
        case bool():
            return str(given).lower()
        case float():
            return f"{given:g}"
        case int() if given.bit_length() <= MOST_BITS:
            return str(given)
    return ""
