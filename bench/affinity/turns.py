"""Conversations that go on turn by turn through several gateways, and the outcome of every turn."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from csm_client import AsyncClient
from csm_client.errors import CsmClientError
from csm_client.requests import StreamOptions, Turn

AT_ONCE = 6  # concurrent turns

IdOf = Callable[[int, int], str]  # (conversation, turn) -> conversation_id of the request; "" sets none

WORDS = ("harbour", "morning", "letter", "window", "garden", "station", "winter", "kettle")


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn. `error` is empty for a complete one."""

    conversation: int
    turn: int
    request_id: str
    digest: str = ""  # of the samples
    error: str = ""


@dataclass
class Conversations:
    """`count` conversations, whose turns use the gateways in rotation."""

    name: str  # part of the words, so that conversations of another name differ
    count: int
    clients: Sequence[AsyncClient]
    id_of: IdOf
    audio_s: float
    most_turns: int = 16  # in the context
    records: list[TurnRecord] = field(default_factory=list)
    _said: dict[int, list[Turn]] = field(default_factory=dict)
    _num_turns: Counter[int] = field(default_factory=Counter)

    async def go_on(self, turns: int, on_turn: Callable[[int], None] = lambda done: None) -> list[TurnRecord]:
        """Makes that many more turns of every conversation. on_turn: called after each turn with the number so far."""
        limit = asyncio.Semaphore(AT_ONCE)
        before = len(self.records)

        async def one(conversation: int) -> None:
            for _ in range(turns):
                async with limit:
                    self.records.append(await self._say(conversation))
                    on_turn(len(self.records) - before)

        await asyncio.gather(*(one(conversation) for conversation in range(self.count)))
        return self.records[before:]

    async def _say(self, conversation: int) -> TurnRecord:
        said, turn, request_id = self._said.get(conversation, []), self._num_turns[conversation], str(uuid.uuid4())
        self._num_turns[conversation] += 1
        text = f"{self.name} {conversation}, the {WORDS[turn % len(WORDS)]} of turn {turn}."
        options = StreamOptions(
            context=said,
            seed=1000 * conversation + turn,
            max_seconds=self.audio_s,
            return_codes=True,
            request_id=request_id,
        )
        if conversation_id := self.id_of(conversation, turn):
            options["conversation_id"] = conversation_id
        client = self.clients[(conversation + turn) % len(self.clients)]
        try:
            speech = await client.stream_synthesize(text, **options).read_all()
        except CsmClientError as error:
            self._remember(conversation, Turn(0, text))
            return TurnRecord(conversation, turn, request_id, error=f"{type(error).__name__}: {error}")
        codes = speech.summary.codes
        self._remember(conversation, Turn(0, text, codes=codes if codes.frame_count else None))
        return TurnRecord(conversation, turn, request_id, hashlib.sha256(speech.samples).hexdigest())

    def _remember(self, conversation: int, turn: Turn) -> None:
        turns = [*self._said.get(conversation, []), turn]
        self._said[conversation] = turns[max(0, len(turns) - self.most_turns) :]


def named(conversation: int, turn: int) -> str:
    """Every conversation has an id."""
    return f"conversation-{conversation}"


def unnamed(conversation: int, turn: int) -> str:
    """No conversation has an id."""
    return ""


def scattered(conversation: int, turn: int) -> str:
    """Every turn has a different id, so engines are chosen regardless of the conversation."""
    return f"conversation-{conversation}-{turn}"


def passes_by(conversation: int, turn: int) -> str:
    """Every second call has a unique id; the others have none, and as they have no context, no key either."""
    return uuid.uuid4().hex if turn % 2 else ""
