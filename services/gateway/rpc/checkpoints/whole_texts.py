"""The checkpoints of a text that came whole and is said by sentence: those of its sentences, in one order.

The last one of a sentence is behind its audio, and tells what else the next sentence goes on from.
"""

from __future__ import annotations

from collections.abc import Sequence

from csm.gateway.v1 import made_frames_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_go_on
from services.gateway.audio.resampling.continuation import Place
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.checkpoints.texts import Earlier
from services.gateway.rpc.checkpoints.utterances import UtteranceCheckpoints, frames_of
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.remembered import context_rule
from services.gateway.synthesis.texts.said import Said


class EarlierOfWhole(Earlier):
    """The same of a text that came whole, whose sentences the caller does not know."""

    def header(self) -> tts_pb2.SynthesisHeader:
        num_frames = sum(said.result.codes.frame_count for said in self.said) + self.begun.parts
        first_sample = 0 if self.place is None else self.place.sent_samples
        return tts_pb2.SynthesisHeader(resumed_frame_count=num_frames, first_sample_offset=first_sample)


class WholeTextCheckpoints:
    """Opens the checkpoints of a request and makes those that follow them."""

    def __init__(self, seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog, max_remembered: int) -> None:
        """max_remembered: most earlier sentences in the context of one"""
        digest = request_digest(plan, catalog, ["sentences", plan.sentences, context_rule(max_remembered)])
        self._chain = SealedChain(seal, digest, "stream_config.checkpoints")
        self._plan, self._catalog = plan.without_checkpoints, catalog
        self._sentence: UtteranceCheckpoints | None = None  # the one that is being said, once it has a checkpoint
        self._begins_at = 0  # the sentence that an earlier call has begun, at the codec's rate

    def open(self, sealed: Sequence[bytes]) -> Earlier:
        """Nothing said, and errors, as SealedChain says."""
        states = self._chain.open(sealed, made_frames_pb2.MadeFrames)
        if not any(state.codes.frame_count for state in states):  # the header tells of frames alone
            self._chain.begin_anew()
            return EarlierOfWhole()
        *whole, begun_states = _by_sentence(states)
        place = None
        if whole and can_go_on(self._plan.encoding, self._catalog.sample_rate_hz, self._plan.sample_rate_hz):
            last = whole[-1][-1]
            place = Place(last.decoded_sample_count, last.sent_sample_count, last.last_samples)
            self._begins_at = place.decoded_samples
        sentence = self._of_next("")
        begun = sentence.go_on_from(begun_states, self._begins_at)
        if begun.made is not None:
            self._sentence = sentence
            if begun.place is None:  # the caller knows of no place before its last checkpoint
                place = None
        return EarlierOfWhole(tuple(map(self._said, whole)), place, begun)

    def between(self, synthesis: Synthesis, text: str, sink: StreamSink, is_inside: bool) -> Deliver:
        """Delivers the samples of the next sentence, with checkpoints between them. is_inside: it goes on there"""
        begins_at = self._begins_at if is_inside else sink.taken_samples
        self._sentence = self._sentence or self._of_next(text)
        return self._sentence.between(synthesis, sink, begins_at)

    async def end_sentence(self, said: Said, sink: StreamSink) -> None:
        """Sends the checkpoint behind the sentence that was said last, if the caller asks for it."""
        sentence, self._sentence = self._sentence or self._of_next(said.text), None
        if self._plan.send_checkpoints:
            await sink.end_sentence(lambda place: self._chain.seal(sentence.last(said, place)))

    def _of_next(self, text: str) -> UtteranceCheckpoints:
        return UtteranceCheckpoints(self._chain, self._plan, self._catalog, text)

    def _said(self, states: Sequence[made_frames_pb2.MadeFrames]) -> Said:
        first, last = states[0], states[-1]
        codes = frames_of(states).joined(self._catalog.identity.codebook_count)
        result = SynthesisResult(last.complete, first.started, last.watermark, codes, *4 * [0.0])
        return Said(first.text, result, last.clip_state)


def _by_sentence(states: Sequence[made_frames_pb2.MadeFrames]) -> list[list[made_frames_pb2.MadeFrames]]:
    """The states of each sentence; at the end those of the one that was not said wholly, possibly none."""
    sentences: list[list[made_frames_pb2.MadeFrames]] = [[]]
    for state in states:
        sentences[-1].append(state)
        if state.HasField("watermark"):
            sentences.append([])
    return sentences
