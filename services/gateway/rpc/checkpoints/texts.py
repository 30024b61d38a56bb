"""The checkpoints of a text: what one gateway tells of the sentences that it has said, and another one goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from csm.gateway.v1 import said_sentence_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_go_on
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.checkpoints.utterances import Begun, UtteranceCheckpoints, behind_sentence
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import context_rule
from services.gateway.synthesis.texts.said import BegunSentence, EarlierSentences, Said

FIELD = "config.stream_config."


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier call of the text has said, as its checkpoints tell."""

    said: tuple[Said, ...] = ()
    behind: Place | None = None  # the last of these sentences; None: no encoder goes on there
    begun: Begun = field(default_factory=Begun)  # the next sentence

    @property
    def place(self) -> Place | None:
        """Where the stream goes on; None: it has everything again."""
        return self.begun.place or self.behind

    @property
    def parts(self) -> int:
        """Sentences that are not made again, and the one that is not made again from its start."""
        return len(self.said) + (self.begun.made is not None)

    @property
    def sentences(self) -> EarlierSentences:
        begun = self.begun
        sentence = None if begun.made is None else BegunSentence(begun.text, begun.made, begun.place is not None)
        return EarlierSentences(self.said, sentence, are_heard=self.place is not None)

    def clip(self) -> Clip:
        """The clip as it is where the stream begins. It keeps its key, also when another one has become active."""
        key_id = self.said[-1].result.watermark.key_id if self.said else self.begun.key_id
        return Clip(self.said[-1].clip_state if self.behind is not None else b"", continues=True, key_id=key_id)

    @property
    def at(self) -> str:
        """Where the text goes on, for the metrics."""
        if not self.parts:
            return "start"
        return "codes" if self.place is None else "checkpoint"

    def header(self) -> tts_pb2.SynthesisHeader:
        """What the stream's header says of it."""
        count = len(self.said)
        header = self.begun.header()
        header.resumed_sentence_count, header.first_sentence_index = count, 0 if self.place is None else count
        return header


class TextCheckpoints:
    """Opens the checkpoints of a request and makes those that follow them."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: most earlier sentences in the context of one"""
        digest = request_digest(plan, catalog, context_rule(max_remembered))
        self._chain = SealedChain(seal, digest, FIELD + "checkpoints")
        self._plan, self._catalog = plan.without_checkpoints, catalog
        self._begun: UtteranceCheckpoints | None = None  # of the sentence that an earlier call has begun
        self._begins_at = 0  # that sentence, at the codec's rate, where the stream goes on in it
        self._goes_on = can_go_on(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz)

    def open(self, said: Sequence[bytes], inside: Sequence[bytes]) -> Earlier:
        """Nothing said, and errors, as SealedChain says. inside: of the sentence behind those that were said"""
        states = self._chain.open(said, said_sentence_pb2.SaidSentence)
        if len(states) < len(said):  # what they cannot tell, those inside the next sentence need
            return Earlier()
        place = None
        if states and self._goes_on:
            last = states[-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
            self._begins_at = place.decoded_samples
        speech = self._of_next("")
        begun = speech.open(inside, self._begins_at)
        self._begun = speech if begun.made is not None else None
        return Earlier(tuple(map(_said, states)), place, begun)

    def between(self, synthesis: Synthesis, text: str, sink: StreamSink, is_inside: bool) -> Deliver:
        """Delivers the samples of the next sentence, with checkpoints between them. is_inside: it goes on there"""
        begins_at = self._begins_at if is_inside else sink.taken_samples
        speech, self._begun = self._begun or self._of_next(text), None
        return speech.between(synthesis, sink, begins_at)

    def _of_next(self, text: str) -> UtteranceCheckpoints:
        chain = self._chain.within(FIELD + "speech_checkpoints")
        return UtteranceCheckpoints(chain, self._plan, self._catalog, text)

    async def end_sentence(self, said: Said, sink: StreamSink) -> None:
        """Sends the checkpoint of the sentence that was said last, if the caller asks for it."""
        if self._plan.send_checkpoints:
            await sink.end_sentence(lambda place: self._make(said, place))

    def _make(self, said: Said, place: Place) -> bytes:
        """place: behind the sentence"""
        result = said.result
        state = said_sentence_pb2.SaidSentence(
            text=said.text, codes=result.codes, started=result.started, **behind_sentence(said, place)
        )
        return self._chain.seal(state)


def _said(state: said_sentence_pb2.SaidSentence) -> Said:
    result = SynthesisResult(state.complete, state.started, state.watermark, state.codes, *4 * [0.0])
    return Said(state.text, result, state.clip_state)
