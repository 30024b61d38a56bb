"""The checkpoints of a text that comes in pieces, from which another gateway resumes after this one was lost.

There is one after each sentence, and those of the current sentence (utterances.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from csm.gateway.v1 import sentence_state_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_resume
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.checkpoints.utterances import ResumedUtterance, UtteranceCheckpoints, after_sentence
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import context_rule
from services.gateway.synthesis.texts.spoken import PartialSentence, SpokenSentence, SpokenSentences

FIELD = "config.stream_config."


@dataclass(frozen=True, slots=True)
class ResumedText:
    """A text as restored from the checkpoints of an earlier call. Without any it is new."""

    spoken: tuple[SpokenSentence, ...] = ()
    spoken_end: Place | None = None  # after the last of these; None: the encoder cannot resume there
    current: ResumedUtterance = field(default_factory=ResumedUtterance)  # the sentence after them

    @property
    def place(self) -> Place | None:
        """Where the audio resumes; None: the stream repeats it from the start."""
        return self.current.place or self.spoken_end

    @property
    def parts(self) -> int:
        """Sentences that are not generated again, or not from their start."""
        return len(self.spoken) + (self.current.state is not None)

    @property
    def sentences(self) -> SpokenSentences:
        partial, current = None, self.current
        if current.state is not None:
            partial = PartialSentence(current.text, current.state, resumes_inside=current.place is not None)
        return SpokenSentences(self.spoken, partial, were_heard=self.place is not None)

    def clip(self) -> Clip:
        """The clip where decoding begins. Keeps the watermark key, even if another one has become active."""
        key_id = self.spoken[-1].result.watermark.key_id if self.spoken else self.current.key_id
        clip_state = self.spoken[-1].clip_state if self.spoken_end is not None else b""
        return Clip(clip_state, continues=True, key_id=key_id)

    @property
    def at(self) -> str:
        """What the stream resumes from, for the metrics."""
        if not self.parts:
            return "start"
        return "codes" if self.place is None else "checkpoint"

    def header(self) -> tts_pb2.SynthesisHeader:
        """The header's fields about the resumption."""
        count = len(self.spoken)
        header = self.current.header()
        header.resumed_sentence_count, header.first_sentence_index = count, 0 if self.place is None else count
        return header


class TextCheckpoints:
    """Opens the checkpoints of a request and makes the next ones."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: most earlier sentences in the context of a sentence"""
        digest = request_digest(plan, catalog, context_rule(max_remembered))
        self._chain = SealedChain(seal, digest, FIELD + "checkpoints")
        self._plan, self._catalog = plan.without_checkpoints, catalog
        self._resumed: UtteranceCheckpoints | None = None  # of the sentence that an earlier call had begun
        self._resumed_begins_at = 0  # its first sample in the stream, at the codec's rate
        self._can_resume = can_resume(plan.encoding, catalog.sample_rate_hz, plan.sample_rate_hz)

    def open(self, sealed_sentences: Sequence[bytes], sealed_current: Sequence[bytes]) -> ResumedText:
        """New, or an error, as in SealedChain.open. sealed_current: checkpoints inside the sentence after the others"""
        states = self._chain.open(sealed_sentences, sentence_state_pb2.SentenceState)
        if len(states) < len(sealed_sentences):  # the current sentence cannot resume without those before it
            return ResumedText()
        place = None
        if states and self._can_resume:
            last = states[-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
            self._resumed_begins_at = place.decoded_samples
        checkpoints = self._of_sentence("")
        current = checkpoints.open(sealed_current, self._resumed_begins_at)
        self._resumed = checkpoints if current.state is not None else None
        return ResumedText(tuple(map(_spoken, states)), place, current)

    def deliver_with_checkpoints(
        self, synthesis: Synthesis, text: str, sink: StreamSink, *, resumes_inside: bool
    ) -> Deliver:
        """As SentenceCheckpoints has it."""
        begins_at = self._resumed_begins_at if resumes_inside else sink.taken_samples
        checkpoints, self._resumed = self._resumed or self._of_sentence(text), None
        return checkpoints.deliver_with_checkpoints(synthesis, sink, begins_at)

    def _of_sentence(self, text: str) -> UtteranceCheckpoints:
        chain = self._chain.within(FIELD + "speech_checkpoints")
        return UtteranceCheckpoints(chain, self._plan, self._catalog, text)

    async def end_sentence(self, sentence: SpokenSentence, sink: StreamSink) -> None:
        """As SentenceCheckpoints has it."""
        if self._plan.send_checkpoints:
            await sink.end_sentence(lambda place: self._sealed(sentence, place))

    def _sealed(self, sentence: SpokenSentence, place: Place) -> bytes:
        """place: after the sentence"""
        codes, started = sentence.result.codes, sentence.result.started
        return self._chain.seal(
            sentence_state_pb2.SentenceState(
                text=sentence.text, codes=codes, started=started, **after_sentence(sentence, place)
            )
        )


def _spoken(state: sentence_state_pb2.SentenceState) -> SpokenSentence:
    result = SynthesisResult(state.complete, state.started, state.watermark, state.codes)
    return SpokenSentence(state.text, result, state.clip_state)
