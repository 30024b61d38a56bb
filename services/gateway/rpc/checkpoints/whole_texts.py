"""The checkpoints of a text that came whole and is spoken sentence by sentence: those of its sentences, in one list.

The last one of a sentence comes after its audio, and carries what the next sentence continues from.
"""

from __future__ import annotations

from collections.abc import Sequence

from csm.gateway.v1 import utterance_state_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_resume
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.checkpoints.texts import ResumedText
from services.gateway.rpc.checkpoints.utterances import UtteranceCheckpoints, buffer_of
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import context_rule
from services.gateway.synthesis.texts.spoken import SpokenSentence


class ResumedWholeText(ResumedText):
    """A ResumedText whose caller does not know its sentences, so that the header counts frames."""

    def header(self) -> tts_pb2.SynthesisHeader:
        num_frames = sum(sentence.result.codes.frame_count for sentence in self.spoken) + self.current.parts
        first_sample = 0 if self.place is None else self.place.sent_samples
        return tts_pb2.SynthesisHeader(resumed_frame_count=num_frames, first_sample_offset=first_sample)


class WholeTextCheckpoints:
    """Opens the checkpoints of a request and makes the next ones."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: most earlier sentences in the context of a sentence"""
        digest = request_digest(plan, catalog, ["sentences", plan.sentences, context_rule(max_remembered)])
        self._chain = SealedChain(seal, digest, "stream_config.checkpoints")
        self._plan, self._catalog = plan.without_checkpoints, catalog
        self._current: UtteranceCheckpoints | None = None  # of the sentence that is being spoken
        self._resumed_begins_at = 0  # first sample of the sentence that an earlier call had begun, at the codec's rate

    def open(self, sealed: Sequence[bytes]) -> ResumedText:
        """New, or an error, as in SealedChain.open."""
        states = self._chain.open(sealed, utterance_state_pb2.UtteranceState)
        if not any(state.codes.frame_count for state in states):  # the header could not announce a resumption
            self._chain.begin_anew()
            return ResumedWholeText()
        *whole, current_states = _by_sentence(states)
        place = None
        if whole and can_resume(self._plan.encoding, self._catalog.sample_rate_hz, self._plan.sample_rate_hz):
            last = whole[-1][-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
            self._resumed_begins_at = place.decoded_samples
        checkpoints = self._of_sentence("")
        current = checkpoints.restore(current_states, self._resumed_begins_at)
        if current.state is not None:
            self._current = checkpoints
            if current.place is None:  # the caller resumes at its last checkpoint or from the start, not between them
                place = None
        return ResumedWholeText(tuple(map(self._spoken, whole)), place, current)

    def deliver_with_checkpoints(
        self, synthesis: Synthesis, text: str, sink: StreamSink, *, resumes_inside: bool
    ) -> Deliver:
        """As SentenceCheckpoints has it."""
        begins_at = self._resumed_begins_at if resumes_inside else sink.taken_samples
        self._current = self._current or self._of_sentence(text)
        return self._current.deliver_with_checkpoints(synthesis, sink, begins_at)

    async def end_sentence(self, sentence: SpokenSentence, sink: StreamSink) -> None:
        """As SentenceCheckpoints has it."""
        checkpoints, self._current = self._current or self._of_sentence(sentence.text), None
        if self._plan.send_checkpoints:
            await sink.end_sentence(lambda place: self._chain.seal(checkpoints.last(sentence, place)))

    def _of_sentence(self, text: str) -> UtteranceCheckpoints:
        return UtteranceCheckpoints(self._chain, self._plan, self._catalog, text)

    def _spoken(self, states: Sequence[utterance_state_pb2.UtteranceState]) -> SpokenSentence:
        first, last = states[0], states[-1]
        codes = buffer_of(states).joined(self._catalog.identity.codebook_count)
        result = SynthesisResult(last.complete, first.started, last.watermark, codes)
        return SpokenSentence(first.text, result, last.clip_state)


def _by_sentence(
    states: Sequence[utterance_state_pb2.UtteranceState],
) -> list[list[utterance_state_pb2.UtteranceState]]:
    """The states of each sentence; the last list is that of the unfinished sentence, possibly empty."""
    sentences: list[list[utterance_state_pb2.UtteranceState]] = [[]]
    for state in states:
        sentences[-1].append(state)
        if state.HasField("watermark"):
            sentences.append([])
    return sentences
