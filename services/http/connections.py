"""uvicorn's connection classes with what they lack: limits, and trailers.

The limits: number of connections; time for headers, an unread body, an unread answer and a close; pongs that wait for a
WebSocket's client, fragments of a message, and bytes of messages that the session has not taken.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame
from websockets.protocol import State

from services.http.backlog import WAITING, waiting_bytes
from services.http.cuts import is_loss, note_loss

HEADER_BYTES = 64 * 1024  # limit of a request's headers
UNREAD_BODY_S = 5.0  # how long a body may still come after its request was answered
UNTOLD_S = 1.0  # added to the write timeout, so that a stream's own timeout, which reports the reason, comes first
SPARE_CONNECTIONS = 64  # above --max-connections, each for one answer 503; further ones are closed at once
SPARE = "csm.spare"  # scope key of such a connection
TRAILERS = "csm.trailers"  # scope key, if the client accepts trailers: the list of them
MOST_FRAGMENTS = 1024  # of one WebSocket message
# Of a WebSocket, in the kernel. By default it may grow to megabytes, which is a minute of speech: a client that reads
# as it plays would get pongs, and the answer to a cancel, that late.
SEND_BUFFER_BYTES = 128 * 1024
MESSAGE_COST_BYTES = 300  # memory of a message in addition to its content
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)  # values of SO_LINGER

Awaited = Literal["headers", "body", "reading"]  # what a client must do in time


def http_connection(header_timeout_s: float, write_timeout_s: float, most: int) -> type[H11Protocol]:
    """A connection class with limits. header_timeout_s: longest time for the headers. write_timeout_s: after which a
    client that does not read is cut off, even before its answer has begun. most: connections, without the spare ones.
    """

    class Connection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._timers: dict[Awaited, asyncio.TimerHandle] = {}
            super().connection_made(transport)
            if len(self.connections) > most + SPARE_CONNECTIONS:
                transport.abort()
                return
            if len(self.connections) > most:
                self.app = _for_one_answer(self.app)
            self.conn = _Trailing(h11.SERVER, HEADER_BYTES)
            self.app = _with_trailers(self.app, self.conn)
            self.app = _with_backlog(self.app, transport)
            self._wait("headers", header_timeout_s, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.SEND_BODY:
                self._stop_waiting("body")
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting("headers")
            elif "headers" not in self._timers:
                self._wait("headers", header_timeout_s, self.transport.close)
            if _is_unframed(self):
                _reset_at_close(self.transport, True)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait("reading", write_timeout_s + UNTOLD_S, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_waiting("reading")

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            if self.flow.write_paused:  # the WebSocket protocol would not know, and write without limit
                self.transport.abort()
                return
            super().handle_websocket_upgrade(event)

        def on_response_complete(self) -> None:
            if _is_unframed(self):
                _reset_at_close(self.transport, False)
            super().on_response_complete()
            if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
                self._wait("body", UNREAD_BODY_S, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            if is_loss(exc):
                note_loss(self)
            for what in list(self._timers):
                self._stop_waiting(what)
            super().connection_lost(exc)

        def _wait(self, what: Awaited, most_s: float, end: Callable[[], None]) -> None:
            self._timers[what] = self.loop.call_later(most_s, end)

        def _stop_waiting(self, what: Awaited) -> None:
            if timer := self._timers.pop(what, None):
                timer.cancel()

    return Connection


class _Trailing(h11.Connection):
    """A connection whose response ends with `trailers`."""

    trailers: Sequence[tuple[bytes, bytes]] = ()

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]  # overloads of it, of which this is both
        if isinstance(event, h11.EndOfMessage) and self.trailers:
            event, self.trailers = h11.EndOfMessage(headers=list(self.trailers)), ()
        return super().send(event)


def _with_trailers(app: ASGIApp, conn: _Trailing) -> ASGIApp:
    """Adds TRAILERS to the scope, a list that the application may fill until the end of the answer."""

    async def trailing(scope: Scope, receive: Receive, send: Send) -> None:
        conn.trailers = []
        asked = ",".join(Headers(scope=scope).getlist("te")).lower()
        if scope["http_version"] == "1.1" and "trailers" in [each.strip() for each in asked.split(",")]:
            scope = {**scope, TRAILERS: conn.trailers}
        await app(scope, receive, send)

    return trailing


def _with_backlog(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    """Adds WAITING to the scope."""

    async def with_backlog(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, WAITING: partial(waiting_bytes, transport)}, receive, send)

    return with_backlog


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket connection with limits of pongs, fragments and unread bytes."""

    unsent_pong: bytes = b""  # the newest one, while the client reads more slowly than the door writes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        with suppress(OSError):  # on macOS the client has already closed
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Refuses headers that h11 has accepted and `websockets` does not: too long or too many."""
        try:
            super().data_received(data)
        except InvalidState:  # uvicorn refuses a text that is no UTF-8, but the client has closed behind it
            self.transport.close()
        if not self.handshake_initiated:
            refusal = self.conn.reject(431, "Failed to open a WebSocket connection: its headers cannot be read.\n")
            self.transport.write(refusal.serialize())
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Raises ClientDisconnected as soon as the connection closes, where uvicorn raises a RuntimeError."""
        await self.writable.wait()
        if self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent and self.initial_response is not None:  # a refusal, which uvicorn takes for no answer
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answers only the newest ping while the client does not read, so that pongs do not fill the memory."""
        if self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        elif pongs := self.conn.data_to_send():
            self.unsent_pong = pongs[-1]

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self.unsent_pong = self.unsent_pong, b""
        if self.conn.state is State.OPEN:
            self.transport.write(pong)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MOST_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)


def websocket_connection(hold: Callable[[], Callable[[int], bool]]) -> type[WebSocketConnection]:
    """A WebSocket connection class whose messages are counted until the session takes them.

    hold: called for each connection; returns its `Share.try_hold`
    """

    class Connection(WebSocketConnection):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._try_hold = hold()
            self._sizes: deque[int] = deque()  # of whole messages that the session has not taken
            self._waiting_bytes = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._try_hold(self._unread_bytes):
                self._try_hold(0)
                self.frames = []
                self.conn.fail(CloseCode.TRY_AGAIN_LATER, "too_many_bodies")
                self.handle_parser_exception()

        def send_receive_event_to_app(self) -> None:
            size, num_before = MESSAGE_COST_BYTES + sum(map(len, self.frames)), self.queue.qsize()
            super().send_receive_event_to_app()
            if self.queue.qsize() > num_before:
                self._sizes.append(size)
                self._waiting_bytes += size

        async def receive(self) -> ASGIReceiveEvent:
            message = await super().receive()
            if message["type"] == "websocket.receive":
                self._waiting_bytes -= self._sizes.popleft()
                self._try_hold(self._unread_bytes)
            return message

        def connection_lost(self, exc: Exception | None) -> None:
            if is_loss(exc):
                note_loss(self)
            self._try_hold(0)
            super().connection_lost(exc)

        @property
        def _unread_bytes(self) -> int:
            if self.transport.is_closing() or not self.handshake_complete:
                return 0
            return len(self.conn.reader.buffer) + sum(map(len, self.frames)) + self._waiting_bytes

    return Connection


def _for_one_answer(app: ASGIApp) -> ASGIApp:
    """The application on a spare connection: marks the scope, and closes after the answer."""

    async def spare(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await app({**scope, SPARE: True}, receive, send_last)

    return spare


def _is_unframed(connection: H11Protocol) -> bool:
    """Whether the end of the connection marks the end of the response, as in HTTP/1.0."""
    return connection.cycle is not None and connection.scope["http_version"] == "1.0"


def _reset_at_close(transport: asyncio.Transport, is_reset: bool) -> None:
    """Sets whether a close resets the connection, which shows the client that the response is incomplete."""
    linger = _RESET if is_reset else _NO_RESET
    try:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except OSError as error:
        if error.errno != errno.EINVAL:  # on macOS the client has already closed
            raise
