"""The checkpoints of a text: what one gateway tells of the sentences that it has said, and another one goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csm.gateway.v1 import said_sentence_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_go_on
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.texts.said import Said


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier call of the text has said, as its checkpoints tell."""

    said: tuple[Said, ...] = ()
    place: Place | None = None  # behind the last sentence, where the stream goes on; None: it has everything again

    def clip(self) -> Clip:
        """The clip as it is where the stream begins. It keeps its key, also when another one has become active."""
        key_id = self.said[-1].result.watermark.key_id if self.said else ""
        return Clip(self.said[-1].clip_state if self.place is not None else b"", continues=True, key_id=key_id)

    @property
    def at(self) -> str:
        """Where the text goes on, for the metrics."""
        return "start" if not self.said else "codes" if self.place is None else "checkpoint"

    def header(self) -> tts_pb2.SynthesisHeader:
        """What the stream's header says of it."""
        count = len(self.said)
        first = 0 if self.place is None else count
        return tts_pb2.SynthesisHeader(resumed_sentence_count=count, first_sentence_index=first)


class TextCheckpoints:
    """Opens the checkpoints of a request and makes those that follow them."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: earlier sentences in the context of one"""
        digest = request_digest(plan, catalog, max_remembered)
        self._chain = SealedChain(seal, digest, "config.stream_config.checkpoints")
        self._goes_on = can_go_on(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz)

    def open(self, sealed: Sequence[bytes]) -> Earlier:
        """Nothing said, and errors, as SealedChain says."""
        states = self._chain.open(sealed, said_sentence_pb2.SaidSentence)
        place = None
        if states and self._goes_on:
            last = states[-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
        return Earlier(tuple(map(_said, states)), place)

    def make(self, said: Said, place: Place) -> bytes:
        """The checkpoint of the sentence that was said last. place: behind it"""
        result = said.result
        state = said_sentence_pb2.SaidSentence(
            text=said.text,
            codes=result.codes,
            started=result.started,
            complete=result.complete,
            watermark=result.watermark,
            clip_state=said.clip_state,
            decoded_sample_count=place.decoded_samples,
            sent_sample_count=place.sent_samples,
            last_samples=place.last_samples,
        )
        return self._chain.seal(state)


def _said(state: said_sentence_pb2.SaidSentence) -> Said:
    result = SynthesisResult(state.complete, state.started, state.watermark, state.codes, 0.0, 0.0, 0.0)
    return Said(state.text, result, state.clip_state)
