"""The response with speech. Its status is sent with the first audio.

A caller that disconnects cancels the call to the gateway. A stream that breaks is not completed: the server closes the
connection, so that no client takes the audio for complete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from csm.v1 import tts_pb2
from csm_client import AsyncSpeechStream, CsmClientError
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.common.telemetry import logs
from services.http.api.disconnect import until_disconnect
from services.http.api.errors import TOO_SLOW, from_client_error
from services.http.api.formats import CONTENT_TYPES
from services.http.api.front import BROKEN
from services.http.backlog import Backlog
from services.http.connections import TRAILERS
from services.http.door import Door
from services.http.endpoints import sse
from services.http.endpoints.speech_request import SpeechRequest, ignored_parameters

FINISH_REASON = "x-finish-reason"  # a trailer: it is known once the audio has ended
EVENT_STREAM = "text/event-stream; charset=utf-8"
_UNBUFFERED = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the second is for nginx before the door


class AudioResponse(Response):
    """Streams audio as bytes or as server-sent events."""

    def __init__(self, door: Door, open_stream: Callable[[], AsyncSpeechStream], body: SpeechRequest) -> None:
        super().__init__()
        self._door = door
        self._open_stream: Callable[[], AsyncSpeechStream] | None = open_stream
        self._body = body
        self._is_sse = body.stream_format == "sse"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError and CallerGoneError, only before the first audio."""
        with self._door.streams.one_more():
            async with self._opened() as stream:
                await until_disconnect(receive, self._speak(stream, scope, send))

    def _opened(self) -> AsyncSpeechStream:
        """Opens the stream, and drops the function that did, which keeps the recordings of the context."""
        assert self._open_stream is not None
        open_stream, self._open_stream = self._open_stream, None
        return open_stream()

    async def _speak(self, stream: AsyncSpeechStream, scope: Scope, send: Send) -> None:
        chunks = aiter(stream)
        try:
            first = await anext(chunks, None)
        except CsmClientError as error:
            raise from_client_error(error) from None
        if first is not None:
            self._door.metrics.first_byte_seconds.observe(time.monotonic() - scope["state"]["started_s"])
        headers = MutableHeaders()
        headers["content-type"] = EVENT_STREAM if self._is_sse else CONTENT_TYPES[self._body.response_format]
        headers.update(_UNBUFFERED | describe(stream.header, ignored_parameters(self._body)))
        trailers: list[tuple[bytes, bytes]] | None = scope.get(TRAILERS)
        if trailers is not None:
            headers["trailer"] = FINISH_REASON
        await send({"type": "http.response.start", "status": 200, "headers": headers.raw})
        backlog = Backlog(scope, self._door.settings.write_timeout_seconds)
        try:
            if first is not None:
                await self._write(send, self._packed(first))
            async for chunk in chunks:
                content = self._packed(chunk)
                await backlog.add(len(content), _seconds(chunk, stream))
                await self._write(send, content)
        except (CsmClientError, TimeoutError) as error:
            await self._break(error, scope, send)
            return
        if stream.summary is not None:
            reason = sse.finish_reason(stream.summary)
            logs.annotate(finish_reason=reason)
            if trailers is not None:
                trailers.append((FINISH_REASON.encode(), reason.encode()))
        end = sse.done(stream.summary, stream.header) if self._is_sse and stream.summary is not None else b""
        await self._write(send, end, more=False)

    def _packed(self, chunk: tts_pb2.AudioChunk) -> bytes:
        return sse.delta(chunk.audio_content) if self._is_sse else chunk.audio_content

    async def _write(self, send: Send, content: bytes, *, more: bool = True) -> None:
        """Raises TimeoutError when the client does not read."""
        message: Message = {"type": "http.response.body", "body": content, "more_body": more}
        async with asyncio.timeout(self._door.settings.write_timeout_seconds):
            await send(message)

    async def _break(self, error: Exception, scope: Scope, send: Send) -> None:
        """Sends the reason if the format is SSE, and leaves the response incomplete."""
        reason = from_client_error(error) if isinstance(error, CsmClientError) else TOO_SLOW
        scope[BROKEN] = reason.code
        if self._is_sse and reason is not TOO_SLOW:
            with suppress(TimeoutError):
                await self._write(send, sse.error(reason))


def _seconds(chunk: tts_pb2.AudioChunk, stream: AsyncSpeechStream) -> float:
    assert stream.header is not None
    return chunk.sample_count / stream.header.audio_format.sample_rate_hertz


def describe(header: tts_pb2.SynthesisHeader | None, ignored: list[str]) -> dict[str, str]:
    """Response headers that describe the synthesis."""
    found = {"x-ignored-parameters": ", ".join(ignored)} if ignored else {}
    if header is not None:
        found |= {
            "x-voice": _ascii(header.voice),
            "x-model-version": _ascii(header.model_version),
            "x-seed": str(header.seed),
            "x-sample-rate": str(header.audio_format.sample_rate_hertz),
        }
    return found


def _ascii(text: str) -> str:
    """The text with characters that a header cannot hold replaced."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)
