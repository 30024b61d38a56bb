"""One utterance of a WebSocket session: text in pieces in, audio out."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from csm.v1 import tts_pb2
from csm_client import AsyncClient, AsyncSpeechStream, CsmClientError, StreamOptions, is_wordless
from csm_client.files import is_unicode

from services.http.api.errors import ApiError, from_client_error, wrong_field
from services.http.endpoints import sse
from services.http.endpoints.waiting_text import Piece, WaitingText
from services.http.endpoints.websocket_messages import FIRST_HALF, LONGEST_PIECE, AudioIn

SendJson = Callable[[dict[str, Any]], Awaitable[None]]
SendBytes = Callable[[bytes], Awaitable[None]]


class Utterance:
    """A text that grows until `end`, and the one call to the gateway that speaks it."""

    def __init__(
        self,
        client: AsyncClient,
        options: StreamOptions,
        response_format: str,
        audio: AudioIn,
        waiting: WaitingText,
    ) -> None:
        """waiting: of the session. `drop` gives it back what is left"""
        self._client = client
        self._options = options
        self._format, self._audio = response_format, audio
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._waiting = waiting
        self.is_open = True
        self.sent_samples = 0
        self._begun = 0  # sentences
        self._half = ""  # of a surrogate pair that the last piece has cut

    def push(self, text: str, flush: bool) -> None:
        """Raises ApiError when the text is far ahead of the speech, when there is no room for it, and for half a
        character that the next piece cannot complete.
        """
        self._waiting.check(text)
        text = self._whole(text)
        if flush and self._half:
            raise _half("is flushed")
        for at in range(0, len(text), LONGEST_PIECE):
            self._add((text[at : at + LONGEST_PIECE], False))
        if flush:
            self._add(("", True))

    def _whole(self, text: str) -> str:
        """The text with the half that is kept of the piece before, and without the half that it may end with."""
        if not self._half and is_unicode(text):
            return text
        text = (self._half + text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        self._half = text[-1:] if FIRST_HALF.match(text[-1:]) else ""
        text = text.removesuffix(self._half)
        if not is_unicode(text):
            raise wrong_field("text", "must be valid Unicode; it has half of a surrogate pair.")
        return text

    def _add(self, piece: Piece) -> None:
        self._waiting.add(piece)
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        """Raises ApiError for half a character at the end."""
        if self._half:
            raise _half("ends")
        self.is_open = False
        self._pieces.put_nowait(None)

    def drop(self) -> None:
        """No more of it is spoken."""
        while not self._pieces.empty():
            if (piece := self._pieces.get_nowait()) is not None:
                self._waiting.remove(piece)

    async def speak(self, send_json: SendJson, send_bytes: SendBytes) -> None:
        """Sends sentence marks and audio until the end of the text. Raises ApiError."""
        if not self.is_open and self._pieces.qsize() == 1:  # nothing but its end
            await send_json(_done(0))
            return
        try:
            async with self._client.stream_synthesize_text(self._texts(), **self._options) as stream:
                async for chunk in stream:
                    await self._mark(stream, send_json)
                    if self._audio == "binary":
                        await send_bytes(chunk.audio_content)
                    else:
                        audio = base64.b64encode(chunk.audio_content).decode()
                        await send_json({"type": "audio.delta", "audio": audio})
                    self.sent_samples += chunk.sample_count
        except CsmClientError as error:
            if not is_wordless(error):
                raise from_client_error(error) from None
        if self._begun:
            await send_json(self._sentence_done())
        outcome = {} if stream.summary is None else sse.outcome(stream.summary, stream.header)
        await send_json(_done(self._begun) | outcome)

    def cancelled(self) -> dict[str, Any]:
        """The answer to a client that has stopped the speech."""
        return {"type": "audio.cancelled", "sentence_index": self._begun - 1, "sent_samples": self.sent_samples}

    async def _mark(self, stream: AsyncSpeechStream, send_json: SendJson) -> None:
        """Announces the sentences that have begun since the last audio."""
        assert stream.header is not None
        for sentence in stream.sentences[self._begun :]:
            if self._begun:
                await send_json(self._sentence_done())
            await send_json(
                {
                    "type": "audio.start",
                    "sentence_index": self._begun,
                    "sentence_text": sentence.text,
                    "sample_offset": sentence.sample_offset,
                    "format": self._format,
                    "sample_rate": stream.header.audio_format.sample_rate_hertz,
                }
            )
            self._begun += 1

    def _sentence_done(self) -> dict[str, Any]:
        return {"type": "audio.done", "sentence_index": self._begun - 1}

    async def _texts(self) -> AsyncIterator[tts_pb2.TextPiece]:
        while (piece := await self._pieces.get()) is not None:
            self._waiting.remove(piece)
            text, flush = piece
            yield tts_pb2.TextPiece(text=text, flush=flush)


def _half(what: str) -> ApiError:
    return wrong_field("text", f"{what} within a surrogate pair; the next piece must have its other half.")


def _done(sentences: int) -> dict[str, Any]:
    return {"type": "session.done", "total_sentences": sentences}
