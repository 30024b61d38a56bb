"""Checks the bearer tokens of calls. It stores digests of tokens only. It knows reflection and health, and no other
method.

The file is a JSON list of {"name": ..., "sha256": ..., "max_streams": ...}; "max_streams" is optional. A name may have
several tokens, for example while one replaces another. A changed file is reloaded. If it is invalid, the last valid one
stays in use.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
from pydantic import Field, Strict, TypeAdapter, ValidationError

from csm_bundle.checked_json import NOT_JSON, Problem, RepeatedKeyError, first_problem, keys, named_once, needed
from services.common.followed_files import FollowedFiles
from services.common.rpc.status import StatusError
from services.common.telemetry.spans import CallMetadata
from services.gateway.metrics import GatewayMetrics

HEADER = "authorization"
MISSING = "CREDENTIAL_MISSING"
INVALID = "CREDENTIAL_INVALID"
# The protos are public, and --no-reflection turns reflection off. gRPC watches health without metadata of its caller.
OPEN_TO_ALL = ("/grpc.reflection.", "/grpc.health.v1.Health/")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_CallerName = Annotated[
    str, Strict(), Field(pattern=f"^(?:{_NAME.pattern})$"), needed("1 to 64 letters, digits or . _ @ -")
]
_Digest = Annotated[str, Strict(), Field(pattern="^[0-9a-f]{64}$"), needed("64 hexadecimal digits in lower case")]
_StreamLimit = Annotated[int, Strict(), Field(ge=1), needed("a whole number of at least 1")]


class TokensFileError(OSError):
    """The tokens file cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One accepted token."""

    name: _CallerName  # for the log
    sha256: _Digest  # of the token
    max_streams: _StreamLimit | None = None  # syntheses at once; None is the limit of all callers


_ENTRIES: TypeAdapter[list[TokenEntry]] = TypeAdapter(
    list[Annotated[TokenEntry, keys(("name", "sha256"), ("max_streams",))]]
)


class BearerTokens:
    """Accepts or refuses calls by their token."""

    def __init__(self, path: Path, metrics: GatewayMetrics, on_reload: Callable[[bool], None]) -> None:
        """Raises OSError when the file cannot be used. on_reload: see FollowedFiles"""
        self._refused = metrics.refused
        self._file = FollowedFiles([path], lambda: load_entries(path), on_reload=on_reload)

    def admit(self, method: str, metadata: CallMetadata) -> str:
        """The name of the caller; "" for methods that need no token. Raises StatusError UNAUTHENTICATED."""
        if method.startswith(OPEN_TO_ALL):
            return ""
        values = [value for key, value in metadata if key == HEADER]
        if not values:
            raise self._refusal(MISSING, "This server wants a token, as metadata 'authorization: Bearer TOKEN'.")
        scheme, _, token = str(values[0]).partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer" or not token:
            raise self._refusal(INVALID, "The credential must be one token, as metadata 'authorization: Bearer TOKEN'.")
        name = self._name_of(token)
        if name is None:
            raise self._refusal(INVALID, "This server does not know the token.")
        return name

    def max_streams(self, name: str) -> int | None:
        """Most syntheses of the caller at once; None when the file sets no limit."""
        return next((entry.max_streams for entry in self._file.current if entry.name == name), None)

    def _name_of(self, token: str) -> str | None:
        """Compares with every entry in constant time, so that timing reveals nothing."""
        digest = digest_of(token)
        found = None
        for entry in self._file.current:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry.name
        return found

    def _refusal(self, reason: str, message: str) -> StatusError:
        self._refused.labels(reason).inc()
        return StatusError(grpc.StatusCode.UNAUTHENTICATED, reason, message)


def load_entries(path: Path) -> list[TokenEntry]:
    """Raises TokensFileError."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        listed = json.loads(text, object_pairs_hook=named_once)
    except RepeatedKeyError:  # without the key, which may be a token
        raise TokensFileError(f"--auth-tokens-file {path} has a key twice in one object.") from None
    except (OSError, *NOT_JSON) as error:
        raise TokensFileError(f"--auth-tokens-file {path} cannot be read: {error}") from None
    try:
        entries = _ENTRIES.validate_python(listed)
    except ValidationError as error:
        raise TokensFileError(f"--auth-tokens-file {path}{_without_value(first_problem(error))}.") from None
    if len({entry.sha256 for entry in entries}) != len(entries):
        raise TokensFileError(f"--auth-tokens-file {path} has a digest twice.")
    for name, limits in _limits(entries).items():
        if len(limits) > 1:
            raise TokensFileError(f"--auth-tokens-file {path} gives {name} more than one max_streams.")
    return entries


def _without_value(problem: Problem) -> str:
    """Describes an error without the invalid value, which may be a token instead of its digest."""
    match problem.path:
        case ():
            return " must be a list of objects with name and sha256"
        case (int(index), str(key)) if key in ("name", "sha256", "max_streams"):
            return f", entry {index + 1}: {key} must be {problem.rule}"
        case path:
            wanted = "name, sha256 and perhaps max_streams, and nothing else"
            return f", entry {int(path[0]) + 1} must be an object with {wanted}"


def _limits(entries: Iterable[TokenEntry]) -> dict[str, set[int | None]]:
    limits: dict[str, set[int | None]] = {}
    for entry in entries:
        limits.setdefault(entry.name, set()).add(entry.max_streams)
    return limits


def is_name(text: str) -> bool:
    """Whether a caller may be called this: it goes into log lines."""
    return _NAME.fullmatch(text) is not None


def new_token() -> str:
    """256 random bits in characters that metadata and environment variables can hold."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """The digest of a token. It is unsalted: tokens are random and cannot be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()
