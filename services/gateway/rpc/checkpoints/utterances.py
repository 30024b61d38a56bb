"""The checkpoints of one utterance or sentence: the frames that one gateway has had made, and another one goes on from.

The other one has no frame made again. Where the encoder can go on, it decodes from the codec's checkpoint before the
audio that was sent; otherwise it decodes all frames again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from csm.engine.v1 import engine_pb2
from csm.gateway.v1 import made_frames_pb2
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import can_go_on, samples_before
from services.gateway.audio.resampling.continuation import Place, aligned
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain, request_digest
from services.gateway.rpc.sinks import StreamSink
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.decoding import FrameBuffer
from services.gateway.synthesis.made import Made
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.synthesis import Deliver, Synthesis
from services.gateway.synthesis.texts.said import Said

CHECKPOINT_FRAMES = 5  # of audio between two of them, at least


@dataclass(frozen=True, slots=True)
class Begun:
    """What an earlier call of the utterance has made, as its checkpoints tell."""

    made: Made | None = None
    place: Place | None = None  # where the stream goes on; None: it has everything of the utterance again
    text: str = ""  # of a sentence
    key_id: str = ""  # of the mark

    @property
    def parts(self) -> int:
        """Frames that are not made again."""
        return 0 if self.made is None else self.made.codes.frame_count

    @property
    def at(self) -> str:
        """Where the stream goes on, for the metrics."""
        return "start" if self.made is None else "codes" if self.place is None else "checkpoint"

    def clip(self) -> Clip:
        """It keeps its key, also when another one has become active."""
        return Clip(key_id=self.key_id)

    def header(self) -> tts_pb2.SynthesisHeader:
        """What the stream's header says of it."""
        first_sample = 0 if self.place is None else self.place.sent_samples
        return tts_pb2.SynthesisHeader(resumed_frame_count=self.parts, first_sample_offset=first_sample)


class UtteranceCheckpoints:
    """Opens the checkpoints of a request and makes those that follow them."""

    def __init__(self, chain: SealedChain, plan: SynthesisPlan, catalog: Catalog, text: str = "") -> None:
        """text: of a sentence"""
        self._chain, self._text = chain, text
        self._catalog, self._sends = catalog, plan.send_checkpoints
        self._rates_hz = catalog.sample_rate_hz, plan.sample_rate_hz
        self._goes_on = can_go_on(plan.encoding, *self._rates_hz)
        self._samples_before = samples_before(plan.encoding, *self._rates_hz)  # of a place, that an encoder needs
        self._told_frames = self._told_samples = 0
        self._told_end = False

    @staticmethod
    def of(seal: CodeSeal, plan: SynthesisPlan, catalog: Catalog) -> UtteranceCheckpoints:
        digest = request_digest(plan, catalog, ["utterance", plan.text])
        return UtteranceCheckpoints(SealedChain(seal, digest, "stream_config.checkpoints"), plan, catalog)

    def open(self, sealed: Sequence[bytes], begins_at: int = 0) -> Begun:
        """Nothing begun, and errors, as SealedChain says. begins_at: sample of the stream, at the codec's rate"""
        return self.go_on_from(self._chain.open(sealed, made_frames_pb2.MadeFrames), begins_at)

    def go_on_from(self, states: Sequence[made_frames_pb2.MadeFrames], begins_at: int) -> Begun:
        """states: of this utterance or sentence, opened, in order"""
        if not states:
            return Begun()
        frames = frames_of(states)
        first, last = states[0], states[-1]
        self._told_frames, self._told_end = frames.frame_count, last.HasField("complete")
        self._told_samples = last.decoded_sample_count
        place = Place(last.decoded_sample_count, last.sent_sample_count) if last.sent_sample_count else None
        made = Made(
            frames.joined(self._catalog.identity.codebook_count),
            first.started,
            last.complete if self._told_end else None,
            last.decoding,
            0 if place is None else place.decoded_samples - begins_at,
        )
        return Begun(made, place, first.text, first.watermark_key_id)

    def between(self, synthesis: Synthesis, sink: StreamSink, begins_at: int = 0) -> Deliver:
        """Delivers to the sink, and sends checkpoints between the audio if the caller asks for them. begins_at: as of
        `open`
        """
        if not self._sends:
            return sink.deliver
        self._told_samples = max(self._told_samples, begins_at)

        async def deliver(samples: bytes) -> int:
            sent = await sink.deliver(samples)
            if sink.taken_samples >= self._told_samples + CHECKPOINT_FRAMES * self._catalog.frame_samples:
                self._told_samples = sink.taken_samples
                if (state := self._next(synthesis, sink, begins_at)) is not None:
                    await sink.send_checkpoint(self._chain.seal(state))
            return sent

        return deliver

    def _next(self, synthesis: Synthesis, sink: StreamSink, begins_at: int) -> made_frames_pb2.MadeFrames | None:
        """What follows the last checkpoint; None where nothing does."""
        made = synthesis.made(self._told_frames, sink.taken_samples - begins_at - self._samples_before)
        goes_on = self._goes_on and made.checkpoint.sample_offset > 0 and sink.sent_samples > 0
        if not (made.codes.frame_count or goes_on or (made.complete is not None and not self._told_end)):
            return None
        state = self._first(made.started) if not self._told_frames else made_frames_pb2.MadeFrames()
        state.MergeFrom(made_frames_pb2.MadeFrames(codes=made.codes, complete=made.complete))
        if goes_on:
            state.decoding.CopyFrom(made.checkpoint)
            state.decoded_sample_count = aligned(begins_at + made.checkpoint.sample_offset, *self._rates_hz)
            state.sent_sample_count = sink.sent_samples
        self._told_frames += made.codes.frame_count
        self._told_end = made.complete is not None
        return state

    def last(self, said: Said, place: Place) -> made_frames_pb2.MadeFrames:
        """What follows the last checkpoint of a sentence that has been said. place: behind it"""
        result = said.result
        state = self._first(result.started) if not self._told_frames else made_frames_pb2.MadeFrames()
        frames = FrameBuffer()
        frames.put(result.codes)
        rest = frames.joined(self._catalog.identity.codebook_count, self._told_frames)
        state.MergeFrom(made_frames_pb2.MadeFrames(codes=rest, **behind_sentence(said, place)))
        return state

    def _first(self, started: engine_pb2.GenerateStarted) -> made_frames_pb2.MadeFrames:
        return made_frames_pb2.MadeFrames(
            started=started, watermark_key_id=self._catalog.codec.active_key_id, text=self._text
        )


def behind_sentence(said: Said, place: Place) -> dict[str, Any]:
    """What the next sentence goes on from, by the names of both kinds of states. place: behind the sentence"""
    return {
        "complete": said.result.complete,
        "watermark": said.result.watermark,
        "clip_state": said.clip_state,
        "decoded_sample_count": place.decoded_samples,
        "sent_sample_count": place.sent_samples,
        "last_samples": place.last_samples,
    }


def frames_of(states: Sequence[made_frames_pb2.MadeFrames]) -> FrameBuffer:
    """All of their frames."""
    frames = FrameBuffer()
    for state in states:
        frames.put(state.codes)
    return frames
