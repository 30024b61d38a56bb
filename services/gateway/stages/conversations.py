"""The key by which a conversation finds its engine again. It knows no replica.

Equal keys go to equal replicas (balancing.py), which may still hold the keys and values of the earlier turns. The key
is a hint: a wrong one costs prefill, and never changes the audio.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from csm.rvq.v1 import rvq_pb2

MAX_ID_LENGTH = 128


class Turn(Protocol):
    """A turn of the context."""

    @property
    def speaker(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def codes(self) -> rvq_pb2.CodeFrames | None: ...


def wrong_id(conversation_id: str) -> str:
    """What is wrong with a caller's id; "" when nothing is."""
    if len(conversation_id) > MAX_ID_LENGTH:
        return f"has {len(conversation_id)} characters; at most {MAX_ID_LENGTH} are allowed."
    return "" if conversation_id.isprintable() else "has a character that is not printable."


def conversation_key(caller: str, conversation_id: str, turns: Iterable[Turn], call_id: str = "") -> str:
    """32 hexadecimal digits; "" when nothing identifies a conversation.

    caller: name of who calls, "" when unknown. It is part of every key, so that one caller's ids say nothing about
    another's, and equal ids of two callers do not share an engine. conversation_id: the caller's, if it gave one.
    turns: of the request's own context, oldest first, without a prompt that the server puts before it. call_id:
    identifies the call, when the call makes several utterances that continue from each other.

    Without an id, the first turn with codes is the key: those are of an earlier answer, whose seed was drawn, and no
    other conversation has them. A turn without codes may be the recording of a voice that thousands of conversations
    begin with.
    """
    if conversation_id:
        return _digest("id", caller, conversation_id)
    for turn in turns:
        if turn.codes is not None:
            return _digest("turn", caller, str(turn.speaker), turn.text, turn.codes.codes)
    return _digest("call", caller, call_id) if call_id else ""


def _digest(*parts: str | bytes) -> str:
    """Parts of other lengths give other digests: each is preceded by its length."""
    digest = hashlib.blake2b(digest_size=16, person=b"csm-conversation")
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
