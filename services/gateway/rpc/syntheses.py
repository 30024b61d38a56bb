"""Builds the synthesis of a plan: of one utterance, or of a text of several sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from csm.codec.v1 import codec_pb2

from services.common.rpc.status import wrong_field
from services.gateway.metrics import GatewayMetrics
from services.gateway.rpc.checkpoints.texts import ResumedText
from services.gateway.rpc.sinks import StreamSink
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import Codec, CodecStream
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing
from services.gateway.synthesis.failover import FailoverLimits, Failovers
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.resume_state import ResumeState
from services.gateway.synthesis.synthesis import Deliver, Engine, Synthesis
from services.gateway.synthesis.texts.remembered import RememberedSentences
from services.gateway.synthesis.texts.silence import deliver_silence
from services.gateway.synthesis.texts.spoken import SpokenSentence
from services.gateway.synthesis.texts.text_synthesis import BeforeDecoding, TextClip, TextSynthesis
from services.gateway.synthesis.texts.words import NO_WORDS

_NEW_TEXT = ResumedText()


class SentenceCheckpoints(Protocol):
    """Makes the checkpoints of a text."""

    def deliver_with_checkpoints(
        self, synthesis: Synthesis, text: str, sink: StreamSink, *, resumes_inside: bool
    ) -> Deliver:
        """Delivers the next sentence to the sink, with checkpoints between its audio.

        resumes_inside: the caller has the sentence's first samples from an earlier call
        """

    async def end_sentence(self, sentence: SpokenSentence, sink: StreamSink) -> None:
        """Sends the checkpoint after the newest sentence, if the caller asks for it."""


class Syntheses:
    """Builds syntheses with the stages and the settings of this gateway. It does not run them."""

    def __init__(self, settings: GatewaySettings, engine: Engine, codec: Codec, metrics: GatewayMetrics) -> None:
        self._settings, self._engine, self._codec, self._metrics = settings, engine, codec, metrics

    def of_utterance(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        clip: Clip | None = None,
        resume_from: ResumeState | None = None,
        before_decoding: BeforeDecoding | None = None,
        *,
        has_listener: bool = False,
        arrived_at_s: float | None,
    ) -> Synthesis:
        """has_listener: the caller has audio already. The other arguments are those of Synthesis."""
        return Synthesis(
            plan,
            catalog,
            self._engine,
            self._codec,
            self._pacing(),
            self._failovers(has_listener=has_listener),
            before_decoding=before_decoding,
            clip=clip,
            arrived_at_s=arrived_at_s,
            resume_from=resume_from,
        )

    def of_text(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        sentences: AsyncIterator[str],
        resumed: ResumedText = _NEW_TEXT,
        sink: StreamSink | None = None,
        checkpoints: SentenceCheckpoints | None = None,
        field_of: Callable[[str], str] = str,
    ) -> TextSynthesis:
        """resumed: what another gateway has spoken. sink: of a stream that announces sentences or sends checkpoints.
        field_of: see TextSynthesis
        """
        return TextSynthesis(
            plan,
            sentences,
            _TextClip(self, plan, catalog, resumed.clip(), sink, checkpoints),
            RememberedSentences(self._settings.max_remembered_sentences),
            resumed.sentences,
            field_of,
        )

    async def close_clip(
        self, request_id: str, catalog: Catalog, clip: Clip, deadline: Deadline
    ) -> codec_pb2.WatermarkResult | None:
        """Ends a clip after its last utterance and returns its watermark; None if the codec is of an older version,
        which reports one for each utterance. Raises StageError.
        """
        if not clip.resume:
            return None
        clip.continues = False
        failovers = self._failovers(has_listener=True)
        return await CodecStream(request_id, catalog, self._codec, self._pacing(), failovers, clip).close(deadline)

    def _pacing(self) -> DecodePacing:
        settings = self._settings
        return DecodePacing(
            settings.decode_ahead_frames,
            settings.slot_patience_seconds,
            lambda event: self._metrics.decode_slots.labels(event).inc(),
        )

    def _failovers(self, *, has_listener: bool) -> Failovers:
        return Failovers(
            FailoverLimits(
                most=self._settings.max_failovers,
                wait_s=self._settings.failover_wait_seconds,
                full_wait_s=self._settings.full_wait_seconds,
                most_full=self._settings.max_full_replicas,
            ),
            lambda stage, outcome: self._metrics.failovers.labels(stage.lower(), outcome).inc(),
            lambda outcome: self._metrics.full_replicas.labels("codec", "load", outcome).inc(),
            has_listener=has_listener,
        )


@dataclass(frozen=True, slots=True)
class _TextClip(TextClip):
    """Builds the sentences' syntheses, and passes their beginnings and ends to the sink and the checkpoints, if any."""

    syntheses: Syntheses
    plan: SynthesisPlan
    catalog: Catalog
    clip: Clip
    sink: StreamSink | None
    checkpoints: SentenceCheckpoints | None

    def synthesis_of(
        self,
        sentence: SynthesisPlan,
        before_decoding: BeforeDecoding,
        resume_from: ResumeState | None,
        *,
        is_first: bool,
    ) -> Synthesis:
        # A text that came whole is timed from its arrival, each sentence of a text in pieces from the sentence's.
        arrived_at_s = self.plan.arrived_at_s if self.plan.sentences else None
        return self.syntheses.of_utterance(
            sentence,
            self.catalog,
            self.clip,
            resume_from,
            before_decoding,
            has_listener=not is_first,
            arrived_at_s=arrived_at_s,
        )

    def begin_sentence(self, text: str) -> None:
        if self.sink is not None:
            self.sink.begin_sentence(text)

    def deliver_of(self, synthesis: Synthesis, text: str, *, resumes_inside: bool) -> Deliver | None:
        if self.sink is None or self.checkpoints is None:
            return None
        return self.checkpoints.deliver_with_checkpoints(synthesis, text, self.sink, resumes_inside=resumes_inside)

    async def end_sentence(self, text: str, result: SynthesisResult) -> None:
        if self.sink is not None and self.checkpoints is not None:
            await self.checkpoints.end_sentence(SpokenSentence(text, result, self.clip.resume), self.sink)

    async def say_nothing(self, deliver: Deliver) -> SynthesisResult:
        if not self.plan.silence_without_words:
            raise wrong_field("text", NO_WORDS, "TEXT_EMPTY")
        one_frame = round(self.catalog.frame_s * self.catalog.sample_rate_hz)
        return await deliver_silence(one_frame, deliver, self.plan.arrived_at_s)

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult | None:
        return await self.syntheses.close_clip(self.plan.request_id, self.catalog, self.clip, deadline)
