"""A text in pieces, as the messages of StreamSynthesizeText."""

from __future__ import annotations

from collections.abc import Sequence

from csm.v1 import tts_pb2

Message = tts_pb2.StreamSynthesizeTextRequest
PIECES = ("Good mor", "ning. How ", "are you", "? I am fi", "ne.")


def messages_of(config: tts_pb2.StreamSynthesizeRequest, pieces: Sequence[str] = PIECES) -> list[Message]:
    return [Message(config=config), *(Message(text=tts_pb2.TextPiece(text=piece)) for piece in pieces)]
