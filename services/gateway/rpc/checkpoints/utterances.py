"""The checkpoints of one utterance or sentence, from which another gateway resumes after this one was lost.

They carry the frames, so none is generated again. If the encoder of the audio format can resume, decoding starts at the
codec's checkpoint before the audio that was sent; otherwise all frames are decoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from csm.engine.v1 import engine_pb2
from csm.gateway.v1 import utterance_state_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_resume, samples_before
from services.gateway.audio.resampling.continuation import Place, aligned
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.decoding import FrameBuffer
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.resume_state import ResumeState
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.spoken import SpokenSentence

CHECKPOINT_FRAMES = 5  # least audio between two checkpoints, in frames


@dataclass(frozen=True, slots=True)
class ResumedUtterance:
    """An utterance or sentence as restored from the checkpoints of an earlier call. Without any it is new."""

    state: ResumeState | None = None  # None: new
    place: Place | None = None  # where the audio resumes; None: the stream repeats it from the start
    text: str = ""  # of a sentence
    key_id: str = ""  # of the watermark

    @property
    def parts(self) -> int:
        """Frames that are not generated again."""
        return 0 if self.state is None else self.state.codes.frame_count

    @property
    def at(self) -> str:
        """What the stream resumes from, for the metrics."""
        return "start" if self.state is None else "codes" if self.place is None else "checkpoint"

    def clip(self) -> Clip:
        """Keeps the watermark key, even if another one has become active."""
        return Clip(key_id=self.key_id)

    def header(self) -> tts_pb2.SynthesisHeader:
        """The header's fields about the resumption."""
        first_sample = 0 if self.place is None else self.place.sent_samples
        return tts_pb2.SynthesisHeader(resumed_frame_count=self.parts, first_sample_offset=first_sample)


class UtteranceCheckpoints:
    """Opens the checkpoints of a request and makes the next ones."""

    def __init__(self, chain: SealedChain, plan: SynthesisPlan, catalog: Catalog, text: str = "") -> None:
        """text: of a sentence"""
        self._chain, self._text = chain, text
        self._catalog, self._sends = catalog, plan.send_checkpoints
        self._rates_hz = catalog.sample_rate_hz, plan.sample_rate_hz
        self._can_resume = can_resume(plan.encoding, *self._rates_hz)
        self._samples_before = samples_before(plan.encoding, *self._rates_hz)  # that the encoder needs before a place
        # What the checkpoints so far cover: frames, samples at the codec's rate, and whether the engine was done.
        self._saved_frames = self._saved_samples = 0
        self._saved_end = False

    @staticmethod
    def of(seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog) -> UtteranceCheckpoints:
        digest = request_digest(plan, catalog, ["utterance", plan.text])
        return UtteranceCheckpoints(SealedChain(seal, digest, "stream_config.checkpoints"), plan, catalog)

    def open(self, sealed: Sequence[bytes], begins_at: int = 0) -> ResumedUtterance:
        """New, or an error, as in SealedChain.open. begins_at: first sample of the utterance in the stream, at the
        codec's rate.
        """
        return self.restore(self._chain.open(sealed, utterance_state_pb2.UtteranceState), begins_at)

    def restore(self, states: Sequence[utterance_state_pb2.UtteranceState], begins_at: int) -> ResumedUtterance:
        """states: the opened checkpoints of this utterance or sentence, in order"""
        if not states:
            return ResumedUtterance()
        frames = buffer_of(states)
        first, last = states[0], states[-1]
        self._saved_frames, self._saved_end = frames.frame_count, last.HasField("complete")
        self._saved_samples = last.decoded_sample_count
        place = Place(last.decoded_sample_count, last.sent_sample_count) if last.sent_sample_count else None
        state = ResumeState(
            frames.joined(self._catalog.identity.codebook_count),
            first.started,
            last.complete if self._saved_end else None,
            last.decoding,
            0 if place is None else place.decoded_samples - begins_at,
        )
        return ResumedUtterance(state, place, first.text, first.watermark_key_id)

    def deliver_with_checkpoints(self, synthesis: Synthesis, sink: StreamSink, begins_at: int = 0) -> Deliver:
        """Delivers to the sink, with checkpoints between the audio if the caller asks for them. begins_at: as in
        `open`.
        """
        if not self._sends:
            return sink.deliver
        self._saved_samples = max(self._saved_samples, begins_at)

        async def deliver(samples: bytes) -> int:
            sent = await sink.deliver(samples)
            if sink.taken_samples >= self._saved_samples + CHECKPOINT_FRAMES * self._catalog.frame_samples:
                self._saved_samples = sink.taken_samples
                if (state := self._next(synthesis, sink, begins_at)) is not None:
                    await sink.send_checkpoint(self._chain.seal(state))
            return sent

        return deliver

    def _next(
        self, synthesis: Synthesis, sink: StreamSink, begins_at: int
    ) -> utterance_state_pb2.UtteranceState | None:
        """What is new since the last checkpoint; None if nothing is."""
        new = synthesis.resume_state(self._saved_frames, sink.taken_samples - begins_at - self._samples_before)
        has_place = self._can_resume and new.checkpoint.sample_offset > 0 and sink.sent_samples > 0
        if not (new.codes.frame_count or has_place or (new.complete is not None and not self._saved_end)):
            return None
        state = self._new_state(new.started)
        state.MergeFrom(utterance_state_pb2.UtteranceState(codes=new.codes, complete=new.complete))
        if has_place:
            state.decoding.CopyFrom(new.checkpoint)
            state.decoded_sample_count = aligned(begins_at + new.checkpoint.sample_offset, *self._rates_hz)
            state.sent_sample_count = sink.sent_samples
        self._saved_frames += new.codes.frame_count
        self._saved_end = new.complete is not None
        return state

    def last(self, sentence: SpokenSentence, place: Place) -> utterance_state_pb2.UtteranceState:
        """The last checkpoint of a whole sentence. place: after it"""
        state = self._new_state(sentence.result.started)
        frames = FrameBuffer()
        frames.put(sentence.result.codes)
        unsaved = frames.joined(self._catalog.identity.codebook_count, self._saved_frames)
        state.MergeFrom(utterance_state_pb2.UtteranceState(codes=unsaved, **after_sentence(sentence, place)))
        return state

    def _new_state(self, started: engine_pb2.GenerateStarted) -> utterance_state_pb2.UtteranceState:
        """With what only the first checkpoint carries, if it is that."""
        if self._saved_frames:
            return utterance_state_pb2.UtteranceState()
        return utterance_state_pb2.UtteranceState(
            started=started, watermark_key_id=self._catalog.codec.active_key_id, text=self._text
        )


def after_sentence(sentence: SpokenSentence, place: Place) -> dict[str, Any]:
    """What the next sentence continues from, as fields of both states. place: after the sentence"""
    return {
        "complete": sentence.result.complete,
        "watermark": sentence.result.watermark,
        "clip_state": sentence.clip_state,
        "decoded_sample_count": place.decoded_samples,
        "sent_sample_count": place.sent_samples,
        "last_samples": place.last_samples,
    }


def buffer_of(states: Sequence[utterance_state_pb2.UtteranceState]) -> FrameBuffer:
    """The frames of all states."""
    frames = FrameBuffer()
    for state in states:
        frames.put(state.codes)
    return frames
