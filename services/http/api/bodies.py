"""Limits of request bodies: size, time, number of JSON values, and the bytes of all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive

from services.http.api.disconnect import CallerGoneError
from services.http.api.errors import ApiError, unavailable

MOST_VALUES = 20_000  # of one JSON text; each costs some hundred bytes and some microseconds
FREE_BYTES = 4096  # of each share, not counted


class Bodies:
    """A budget of bytes for the bodies of all running requests, and for contexts and waiting texts of WebSockets."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held = 0

    def take(self, count: int) -> None:
        """Raises ApiError 503 when there is no room."""
        if not self.try_take(count):
            raise too_many()

    def try_take(self, count: int) -> bool:
        """Whether there was room. count: negative gives bytes back"""
        if self.held + count > self._most_bytes:
            return False
        self.held += count
        return True

    def give_back(self, count: int) -> None:
        self.held -= count


class Share:
    """What a WebSocket session takes from the budget. Its first FREE_BYTES are not counted, so that short texts always
    pass.
    """

    def __init__(self, try_take: Callable[[int], bool]) -> None:
        """try_take: as that of Bodies"""
        self._try_take = try_take
        self._held = 0

    def try_hold(self, count: int) -> bool:
        """Changes the held bytes to `count`. Returns whether there was room; a smaller count always succeeds."""
        wanted = max(0, count - FREE_BYTES)
        has_room = self._try_take(wanted - self._held)
        if has_room:
            self._held = wanted
        return has_room


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, most_bytes: int, timeout_s: float, bodies: Bodies, *, is_json: bool) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self._bodies = bodies
        self._is_json = is_json
        self._until_s = asyncio.get_running_loop().time() + timeout_s
        self._taken = 0
        self._values = 0
        self._is_whole = False

    def check_headers(self, headers: Headers) -> None:
        """Raises ApiError 413 for a Content-Length that is too large, 415 for a compressed body."""
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "The body must not be compressed (Content-Encoding).", code="encoding_not_supported")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """Raises ApiError and CallerGoneError."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until_s):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "The body did not come in time.", code="body_too_slow") from None
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        piece = message.get("body", b"")
        self._bodies.take(len(piece))
        self._taken += len(piece)
        if self._taken > self._most_bytes:
            raise self._too_large()
        if self._is_json:
            self._values += values_in(piece)
            check_values(self._values)
        self._is_whole = not message.get("more_body", False)
        return message

    def end(self) -> None:
        """Gives the bytes back, at the end of the request."""
        self._bodies.give_back(self._taken)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body has more than {self._most_bytes} bytes.", code="body_too_large")


def too_many() -> ApiError:
    return unavailable("The bodies of running requests are too large together; call again.", "too_many_bodies")


def forget_body(request: Request) -> None:
    """Frees the body and its JSON, which Starlette would keep until the end of the request."""
    request._body, request._json = b"", None


def values_in(json: bytes | str) -> int:
    """An upper bound of the number of values of a JSON text, minus one, without parsing it."""
    if isinstance(json, str):
        return json.count(",") + json.count("[") + json.count("{")
    return json.count(b",") + json.count(b"[") + json.count(b"{")


def check_values(count: int) -> None:
    """Raises ApiError 413."""
    if count > MOST_VALUES:
        raise ApiError(413, f"The JSON has more than {MOST_VALUES} values.", code="body_too_large")
