"""Writes the messages of StreamSynthesizeText, for both clients. It knows no channel."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from csm.v1 import tts_pb2

from csm_client.requests import StreamOptions, text_config, text_piece

LONGEST_PIECE = 1000  # characters in a message; any server takes as many

Message = tts_pb2.StreamSynthesizeTextRequest


class TextWriter:
    """A configuration, then the pieces. `error` is the exception of the pieces, which gRPC would lose."""

    def __init__(self, pieces: AsyncIterable[str | tts_pb2.TextPiece] | Iterable[str], options: StreamOptions) -> None:
        """pieces: cut anywhere; a str is a complete text"""
        self.config = text_config(options)
        self._pieces = [pieces] if isinstance(pieces, str) else pieces
        self.error: Exception | None = None

    async def messages_async(self) -> AsyncIterator[Message]:
        if not isinstance(self._pieces, AsyncIterable):
            for message in self.messages():
                yield message
            return
        yield self.config
        try:
            async for piece in self._pieces:
                for message in _messages_of(piece):
                    yield message
        except Exception as error:
            self.error = error
            raise

    def messages(self) -> Iterator[Message]:
        """Needs pieces that are no AsyncIterable."""
        assert not isinstance(self._pieces, AsyncIterable)
        yield self.config
        try:
            for piece in self._pieces:
                yield from _messages_of(piece)
        except Exception as error:
            self.error = error
            raise


def _messages_of(piece: str | tts_pb2.TextPiece) -> Iterator[Message]:
    if isinstance(piece, tts_pb2.TextPiece):
        yield Message(text=piece)
        return
    for at in range(0, len(piece), LONGEST_PIECE):
        yield text_piece(piece[at : at + LONGEST_PIECE])
