"""Reads the requests of StreamSynthesizeText: a configuration, then pieces of text, which become sentences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
from csm.v1 import tts_pb2

from services.common.rpc.status import StatusError, wrong_field
from services.gateway.synthesis.texts.sentences import SentenceCutter, blocks

Requests = AsyncIterator[tts_pb2.StreamSynthesizeTextRequest]


async def read_config(requests: Requests, idle_s: float) -> tts_pb2.StreamSynthesizeRequest:
    """The configuration in the first message.

    Raises StatusError INVALID_ARGUMENT when the message holds none, DEADLINE_EXCEEDED when none comes for `idle_s`.
    """
    request = await _next(requests, idle_s, lambda: False)
    if request is not None and request.HasField("config"):
        return request.config
    raise wrong_field("config", "is missing; it must be in the first message.")


async def read_sentences(
    requests: Requests,
    language_code: str,
    max_piece_length: int,
    idle_s: float,
    is_speaking: Callable[[], bool],
) -> AsyncIterator[str]:
    """The sentences of the later messages, each as soon as it is complete.

    Raises StatusError INVALID_ARGUMENT for a message without text, and for a piece that is too long; DEADLINE_EXCEEDED
    when no message comes for `idle_s` while nothing is spoken.
    """
    cutter = SentenceCutter(language_code)
    while (piece := await _next_piece(requests, max_piece_length, idle_s, is_speaking)) is not None:
        text, is_flush = piece
        for block in blocks(text):
            for sentence in cutter.push(block):
                yield sentence
            await asyncio.sleep(0)  # lets other tasks run
        if is_flush:
            for sentence in cutter.flush():
                yield sentence
    for sentence in cutter.flush():
        yield sentence


async def _next_piece(
    requests: Requests, max_length: int, idle_s: float, is_speaking: Callable[[], bool]
) -> tuple[str, bool] | None:
    """Text and flush of the next message, None at the half-close. The message itself is dropped: it may be large, and
    the caller keeps the result for as long as the text is spoken.
    """
    request = await _next(requests, idle_s, is_speaking)
    if request is None:
        return None
    if not request.HasField("text"):
        raise wrong_field("text", "is missing; only the first message is without text.")
    piece = request.text
    if len(piece.text) > max_length:
        why = f"has {len(piece.text)} characters; at most {max_length} are allowed in one message."
        raise wrong_field("text.text", why, "TEXT_TOO_LONG")
    return piece.text, piece.flush


async def _next(
    requests: Requests, idle_s: float, is_speaking: Callable[[], bool]
) -> tts_pb2.StreamSynthesizeTextRequest | None:
    """The next message, None at the half-close."""
    reading = asyncio.ensure_future(anext(requests, None))
    try:
        while not (await asyncio.wait({reading}, timeout=idle_s))[0]:
            if not is_speaking():
                raise StatusError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    "TEXT_STALLED",
                    f"No text has come for {idle_s:g} s, and nothing is left to say.",
                )
        return reading.result()
    finally:
        reading.cancel()
