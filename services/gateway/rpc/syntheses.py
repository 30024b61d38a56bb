"""Puts together the synthesis of a plan: of one utterance, or of a text whose sentences follow each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from csm.codec.v1 import codec_pb2

from services.common.rpc.status import wrong_field
from services.gateway.metrics import GatewayMetrics
from services.gateway.rpc.checkpoints.texts import Earlier
from services.gateway.rpc.sinks import StreamSink
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import Codec, CodecStream
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing
from services.gateway.synthesis.failover import FailoverLimits, Failovers
from services.gateway.synthesis.made import Made
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Engine, Synthesis
from services.gateway.synthesis.texts.remembered import RememberedSentences
from services.gateway.synthesis.texts.said import Said
from services.gateway.synthesis.texts.silence import deliver_silence
from services.gateway.synthesis.texts.text_synthesis import BeforeDecoding, TextClip, TextSynthesis
from services.gateway.synthesis.texts.words import NO_WORDS

_NOTHING_SAID = Earlier()


class SentenceCheckpoints(Protocol):
    """Makes the checkpoints of a text."""

    def between(self, synthesis: Synthesis, text: str, sink: StreamSink, is_inside: bool) -> Deliver:
        """Delivers the samples of the next sentence, with checkpoints between them. is_inside: it goes on there"""

    async def end_sentence(self, said: Said, sink: StreamSink) -> None:
        """Sends the checkpoint behind the sentence that was said last, if the caller asks for it."""


class Syntheses:
    """Makes syntheses that are not running yet, with the stages and the settings of this gateway."""

    def __init__(self, settings: GatewaySettings, engine: Engine, codec: Codec, metrics: GatewayMetrics) -> None:
        self._settings, self._engine, self._codec, self._metrics = settings, engine, codec, metrics

    def of_utterance(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        clip: Clip | None = None,
        made: Made | None = None,
        before_decoding: BeforeDecoding | None = None,
        *,
        has_listener: bool = False,
        arrived_at_s: float | None = None,
    ) -> Synthesis:
        """has_listener: the caller has audio already. The others are as for Synthesis"""
        return Synthesis(
            plan,
            catalog,
            self._engine,
            self._codec,
            self._pacing(),
            self._failovers(has_listener=has_listener),
            before_decoding,
            clip,
            arrived_at_s,
            made,
        )

    def of_text(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        sentences: AsyncIterator[str],
        earlier: Earlier = _NOTHING_SAID,
        sink: StreamSink | None = None,
        checkpoints: SentenceCheckpoints | None = None,
        field_of: Callable[[str], str] = str,
    ) -> TextSynthesis:
        """earlier: what another gateway has said. sink: of the stream that tells of the sentences. field_of: as for
        TextSynthesis
        """
        return TextSynthesis(
            plan,
            sentences,
            _TextClip(self, plan, catalog, earlier.clip(), sink, checkpoints),
            RememberedSentences(self._settings.max_remembered_sentences),
            earlier.sentences,
            field_of,
        )

    async def close_clip(
        self, request_id: str, catalog: Catalog, clip: Clip, deadline: Deadline
    ) -> codec_pb2.WatermarkResult | None:
        """The watermark of a clip that no utterance follows. None: the codec is an older one, which reports each by
        itself. Raises StageError.
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
                self._settings.max_failovers,
                self._settings.failover_wait_seconds,
                self._settings.full_wait_seconds,
                self._settings.max_full_replicas,
            ),
            lambda stage, outcome: self._metrics.failovers.labels(stage.lower(), outcome).inc(),
            lambda outcome: self._metrics.full_replicas.labels("codec", "load", outcome).inc(),
            has_listener=has_listener,
        )


@dataclass(frozen=True, slots=True)
class _TextClip(TextClip):
    """Made with the stages of this gateway, and told of by a sink and its checkpoints, if there are any."""

    syntheses: Syntheses
    plan: SynthesisPlan
    catalog: Catalog
    clip: Clip
    sink: StreamSink | None
    checkpoints: SentenceCheckpoints | None

    def synthesis_of(
        self, sentence: SynthesisPlan, before_decoding: BeforeDecoding, made: Made | None, *, is_first: bool
    ) -> Synthesis:
        # The writer of a text may take as long as they like; one that came whole is waited for from its arrival.
        arrived_at_s = self.plan.arrived_at_s if self.plan.sentences else None
        return self.syntheses.of_utterance(
            sentence,
            self.catalog,
            self.clip,
            made,
            before_decoding,
            has_listener=not is_first,
            arrived_at_s=arrived_at_s,
        )

    def begin_sentence(self, text: str) -> None:
        if self.sink is not None:
            self.sink.begin_sentence(text)

    def deliver_of(self, synthesis: Synthesis, text: str, *, is_inside: bool) -> Deliver | None:
        if self.sink is None or self.checkpoints is None:
            return None
        return self.checkpoints.between(synthesis, text, self.sink, is_inside)

    async def end_sentence(self, text: str, result: SynthesisResult) -> None:
        if self.sink is not None and self.checkpoints is not None:
            await self.checkpoints.end_sentence(Said(text, result, self.clip.resume), self.sink)

    async def say_nothing(self, deliver: Deliver) -> SynthesisResult:
        if not self.plan.silence_without_words:
            raise wrong_field("text", NO_WORDS, "TEXT_EMPTY")
        one_frame = round(self.catalog.frame_s * self.catalog.sample_rate_hz)
        return await deliver_silence(one_frame, deliver, self.plan.arrived_at_s)

    async def close(self, deadline: Deadline) -> codec_pb2.WatermarkResult | None:
        return await self.syntheses.close_clip(self.plan.request_id, self.catalog, self.clip, deadline)
