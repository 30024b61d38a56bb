"""What the gateway keeps of a text's messages while the text is spoken, and while it waits for more of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from csm.v1 import tts_pb2

from services.common.process.memory import heap_bytes, why_not_measured
from services.gateway.rpc.text_stream import read_sentences
from tests.support.text_streams import Message

UNKNOWN = b"\x7a\x80\x80\x80\x10" + bytes(2**25)  # an unknown field of 32 MiB

pytestmark = pytest.mark.skipif(bool(why_not_measured()), reason=why_not_measured())


async def test_a_text_stream_keeps_no_unknown_fields() -> None:
    async def requests() -> AsyncIterator[Message]:
        for piece in ("Good morning. How ", "are you? I "):
            yield Message.FromString(Message(text=tts_pb2.TextPiece(text=piece)).SerializeToString() + UNKNOWN)
        await asyncio.sleep(3600)

    before = heap_bytes()
    sentences = read_sentences(requests(), "en", 2000, 3600, lambda: True)
    assert await anext(sentences) == "Good morning."
    assert heap_bytes() - before < len(UNKNOWN) / 4  # while it is spoken
    assert await anext(sentences) == "How are you?"
    waiting = asyncio.ensure_future(anext(sentences))
    await asyncio.sleep(0.1)
    assert heap_bytes() - before < len(UNKNOWN) / 4
    waiting.cancel()
