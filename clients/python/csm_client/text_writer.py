"""Writes the messages of StreamSynthesizeText, for both clients. It knows no channel.

When the server of a text is lost, the text is sent again from its start to another one. The server's sentences depend
on the pieces only, never on their times, so the same pieces give the same sentences.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from csm.v1 import tts_pb2

from csm_client.errors import cancelled_here

LONGEST_PIECE = 1000  # characters in a message, which every server accepts
MOST_KEPT_BYTES = 256 * 1024  # of a text that can be sent again; many times what one call can speak
PIECE_COST_BYTES = 64  # memory of a message in addition to its content

Message = tts_pb2.StreamSynthesizeTextRequest
Piece = str | tts_pb2.TextPiece


class TextWriter:
    """Writes a configuration, then the pieces, each taken when the call asks for it. Only the newest call gets
    messages.

    error: the exception of the pieces, which gRPC would lose. is_kept: whether another call can send the text from its
    start.
    """

    def __init__(
        self, pieces: AsyncIterable[Piece] | Iterable[Piece], config: tts_pb2.StreamSynthesizeRequest, *, keep: bool
    ) -> None:
        """pieces: cut anywhere; a str is a complete text. config: may change between calls. keep: keeps the messages
        for another call, up to MOST_KEPT_BYTES.
        """
        self._config = config
        self.error: Exception | None = None
        self.is_kept = keep
        whole = [pieces] if isinstance(pieces, str) else pieces
        self._async_pieces = aiter(whole) if isinstance(whole, AsyncIterable) else None
        self._pieces = iter(()) if isinstance(whole, AsyncIterable) else iter(whole)
        self._ended = False
        self._messages: deque[Message] = deque()  # all so far while the text is kept, otherwise those not sent yet
        self._num_dropped = 0  # messages before them
        self._kept_bytes = 0
        self._call = 0  # number of the newest call
        self._taking = threading.Lock()  # held while a piece is taken in a thread
        self._giving = threading.Lock()  # held while a message is given to a call, and dropped
        self._taken: asyncio.Task[None] | None = None  # takes the next piece on an event loop

    def messages(self) -> Iterator[Message]:
        """The messages for a new call. Raises the exception of the pieces, and TypeError for an AsyncIterable."""
        if self._async_pieces is not None:
            raise TypeError("The pieces are asynchronous: use AsyncClient, or give an Iterable of str.")
        self._call += 1
        return self._write(self._call)

    def messages_async(self) -> AsyncIterator[Message]:
        """The same on an event loop, for pieces of either kind."""
        self._call += 1
        return self._write_async(self._call)

    def begin_again(self) -> bool:
        """Ends the calls so far: they get no more messages. Returns whether a new call can send the text from its
        start.
        """
        with self._giving:
            self._call += 1
            return self.is_kept

    def close(self) -> None:
        """Takes no more pieces."""
        self._ended = True
        if self._taken is not None:
            self._taken.cancel()

    def _write(self, call: int) -> Iterator[Message]:
        yield Message(config=self._config)
        number = 0
        while (message := self._wait_for(number, call)) is not None:
            yield message
            number += 1

    async def _write_async(self, call: int) -> AsyncIterator[Message]:
        yield Message(config=self._config)
        number = 0
        while (message := await self._wait_for_async(number, call)) is not None:
            yield message
            number += 1

    def _wait_for(self, number: int, call: int) -> Message | None:
        with self._taking:  # the thread of a lost call may still be waiting for the next piece
            while self._must_wait(number, call):
                self._take()
        return self._message(number, call)

    async def _wait_for_async(self, number: int, call: int) -> Message | None:
        while self._must_wait(number, call):
            if self._async_pieces is None:
                self._take()
                continue
            if self._taken is None or self._taken.done():
                self._taken = asyncio.create_task(self._take_async(self._async_pieces))
            await asyncio.wait({self._taken})  # not cancelled with the call, because the next call needs the piece
        return self._message(number, call)

    def _must_wait(self, number: int, call: int) -> bool:
        is_there = number < self._num_dropped + len(self._messages)
        return not is_there and not self._ended and call == self._call

    def _message(self, number: int, call: int) -> Message | None:
        """None after the last one. Raises the exception of the pieces."""
        if self.error is not None:
            raise self.error
        with self._giving:
            at = number - self._num_dropped
            if call != self._call or at >= len(self._messages):
                return None
            message = self._messages[at]
            if not self.is_kept:
                for _ in range(at + 1):
                    self._messages.popleft()
                self._num_dropped = number + 1
            return message

    def _take(self) -> None:
        try:
            self._add(next(self._pieces))
        except StopIteration:
            self._ended = True
        except Exception as error:
            self._fail(error)

    async def _take_async(self, pieces: AsyncIterator[Piece]) -> None:
        try:
            self._add(await anext(pieces))
        except StopAsyncIteration:
            self._ended = True
        except asyncio.CancelledError:
            if not self._ended:  # not by `close`, but by the pieces themselves
                self._fail(cancelled_here())
        except Exception as error:
            self._fail(error)

    def _add(self, piece: Piece) -> None:
        for message in _messages_of(piece):
            self._messages.append(message)
            self._kept_bytes += message.ByteSize() + PIECE_COST_BYTES
        if self._kept_bytes > MOST_KEPT_BYTES:
            self.is_kept = False

    def _fail(self, error: Exception) -> None:
        self._ended = True
        self.error = error


def _messages_of(piece: Piece) -> Iterator[Message]:
    if isinstance(piece, tts_pb2.TextPiece):
        yield Message(text=piece)
        return
    for at in range(0, len(piece), LONGEST_PIECE):
        yield Message(text=tts_pb2.TextPiece(text=piece[at : at + LONGEST_PIECE]))
