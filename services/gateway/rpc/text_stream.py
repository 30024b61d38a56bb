"""The messages of StreamSynthesizeText: a configuration, then a text, out of which come sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator

from csm.v1 import tts_pb2

from services.common.rpc.status import FieldViolation, StatusError, invalid_argument
from services.gateway.synthesis.sentences import SentenceCutter

Requests = AsyncIterator[tts_pb2.StreamSynthesizeTextRequest]


async def read_config(requests: Requests) -> tts_pb2.StreamSynthesizeRequest:
    """The first message. Raises StatusError INVALID_ARGUMENT when it is another one, or none."""
    async for request in requests:
        if request.HasField("config"):
            return request.config
        break
    raise _wrong("config", "is missing; it must be in the first message.")


async def read_sentences(requests: Requests, language_code: str, max_piece_length: int) -> AsyncIterator[str]:
    """The sentences of the other messages, each when it is whole.

    Raises StatusError INVALID_ARGUMENT for a message that holds no text, and for a piece of too many characters.
    """
    cutter = SentenceCutter(language_code)
    async for request in requests:
        if not request.HasField("text"):
            raise _wrong("text", "is missing; only the first message is without text.")
        piece = request.text
        if len(piece.text) > max_piece_length:
            why = f"has {len(piece.text)} characters; at most {max_piece_length} are allowed in a piece."
            raise _wrong("text.text", why, "TEXT_TOO_LONG")
        for sentence in cutter.push(piece.text):
            yield sentence
        if piece.flush:
            for sentence in cutter.flush():
                yield sentence
    for sentence in cutter.flush():
        yield sentence


def _wrong(field: str, description: str, reason: str = "") -> StatusError:
    return invalid_argument([FieldViolation(field, description, reason)])
