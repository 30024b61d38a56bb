"""Reads the requests of StreamSynthesizeText: a configuration, then pieces of text, which become sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator

from csm.v1 import tts_pb2

from services.common.rpc.status import FieldViolation, StatusError, invalid_argument
from services.gateway.synthesis.sentences import SentenceCutter

Requests = AsyncIterator[tts_pb2.StreamSynthesizeTextRequest]


async def read_config(requests: Requests) -> tts_pb2.StreamSynthesizeRequest:
    """The configuration in the first message. Raises StatusError INVALID_ARGUMENT when the first message holds none."""
    async for request in requests:
        if request.HasField("config"):
            return request.config
        break
    raise _wrong("config", "is missing; it must be in the first message.")


async def read_sentences(requests: Requests, language_code: str, max_piece_length: int) -> AsyncIterator[str]:
    """The sentences of the later messages, each as soon as it is complete.

    Raises StatusError INVALID_ARGUMENT for a message without text, and for a piece that is too long.
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
