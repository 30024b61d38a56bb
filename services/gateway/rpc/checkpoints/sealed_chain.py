"""The checkpoints of one call as a chain of sealed states. They hold codes, so they are sealed with the keys of codes.

Each state holds a digest of the state before it and one of the request. So only all states of one call, in order and
together with its request, are accepted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

from csm.gateway.v1 import sentence_state_pb2, utterance_state_pb2
from google.protobuf.message import DecodeError

from services.common.rpc.status import StatusError, wrong_field
from services.gateway.auth.code_sealing import STATE_MAGIC, CodeSeal, SealError
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan

_KIND, _VERSION = STATE_MAGIC[:-1], STATE_MAGIC[-1]
State = TypeVar("State", sentence_state_pb2.SentenceState, utterance_state_pb2.UtteranceState)


class SealedChain:
    """Opens the states of a request and seals the next ones."""

    def __init__(self, seal: CodeSeal, request_digest: bytes, field: str) -> None:
        """field: path of the states in the request"""
        self._seal, self._request, self._field = seal, request_digest, field
        self._last = b""  # digest of the newest state

    def within(self, field: str) -> SealedChain:
        """A chain that begins after the newest state of this one. It is valid nowhere else."""
        return SealedChain(self._seal, hashlib.sha256(self._request + self._last).digest(), field)

    def open(self, sealed: Sequence[bytes], kind: type[State]) -> list[State]:
        """The opened states. Empty if this gateway lacks the key or has another version: then the call starts over.

        Raises StatusError INVALID_ARGUMENT for states that were changed or do not belong here.
        """
        states = []
        for index, each in enumerate(sealed):
            state = self._opened(index, each, kind)
            if state is None:
                self.begin_anew()
                return []
            states.append(state)
        return states

    def begin_anew(self) -> None:
        """Drops the states so far: the next one is the first of a new chain."""
        self._last = b""

    def seal(self, state: State) -> bytes:
        """Appends a state to the chain. Sets its digests."""
        state.request_digest, state.previous_digest = self._request, self._last
        sealed = self._seal.seal_state(state.SerializeToString())
        self._last = hashlib.sha256(sealed).digest()
        return sealed

    def _opened(self, index: int, sealed: bytes, kind: type[State]) -> State | None:
        """None for another version, and for a key that this gateway lacks."""
        if _version(sealed) not in (None, _VERSION):
            return None
        try:
            state = kind.FromString(self._seal.open_state(sealed))
        except (SealError, DecodeError) as error:
            if isinstance(error, SealError) and error.reason == "SEALED_CODES_UNKNOWN_KEY":
                return None
            raise self._wrong(index, "is not as a server sent it: bytes were changed.", "CHECKPOINT_CHANGED") from None
        if state.request_digest != self._request:
            why = "belongs to another request, or to a server with another model, codec or settings."
            raise self._wrong(index, why, "CHECKPOINT_OTHER_REQUEST")
        if state.previous_digest != self._last:
            why = "does not follow the one before: send all checkpoints of the call, in order."
            raise self._wrong(index, why, "CHECKPOINT_OUT_OF_ORDER")
        self._last = hashlib.sha256(sealed).digest()
        return state

    def _wrong(self, index: int, description: str, reason: str) -> StatusError:
        return wrong_field(f"{self._field}[{index}]", description, reason)


def _version(sealed: bytes) -> int | None:
    """The version of a sealed state; None for bytes of another kind, or cut off before it."""
    return sealed[len(_KIND)] if sealed.startswith(_KIND) and len(sealed) > len(_KIND) else None


def request_digest(plan: SynthesisPlan, catalog: Catalog, also: object) -> bytes:
    """A digest of everything that determines the audio, except codes encoded from recordings: they may differ in some
    bits between processors. A change here needs a new version of the state.

    also: further values that determine the audio, serializable as JSON
    """
    determines = [
        plan.speaker,
        plan.voice,
        plan.prompt_id,
        plan.language_code,
        asdict(plan.sampling),
        plan.max_frames,
        plan.max_utterance_frames,
        plan.encoding,
        plan.sample_rate_hz,
        plan.speed,
        plan.context_digest.hex(),
        also,
        catalog.model.weights_digest,
        [str(getattr(catalog.identity, field.name)) for field in catalog.identity.DESCRIPTOR.fields],
    ]
    return hashlib.sha256(json.dumps(determines).encode()).digest()
