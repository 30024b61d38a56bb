"""Puts together the synthesis of a plan: of one utterance, or of a text whose sentences follow each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from csm.codec.v1 import codec_pb2

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
from services.gateway.synthesis.texts.said import Said
from services.gateway.synthesis.texts.silence import Silence
from services.gateway.synthesis.texts.text_synthesis import BeforeDecoding, TextSynthesis

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
        clip = earlier.clip()
        silence = None
        if plan.silence_without_words:
            silence = Silence(bytes(2 * round(catalog.frame_s * catalog.sample_rate_hz)))

        def synthesis_of(
            sentence: SynthesisPlan, before_decoding: BeforeDecoding, goes_on: bool, made: Made | None
        ) -> Synthesis:
            # The writer of a text may take as long as they like; one that came whole is waited for from its arrival.
            arrived_at_s = plan.arrived_at_s if plan.sentences else None
            return self.of_utterance(
                sentence, catalog, clip, made, before_decoding, has_listener=goes_on, arrived_at_s=arrived_at_s
            )

        def deliver_of(synthesis: Synthesis, text: str, is_inside: bool) -> Deliver | None:
            if sink is None or checkpoints is None:
                return None
            return checkpoints.between(synthesis, text, sink, is_inside)

        async def end_sentence(text: str, result: SynthesisResult) -> None:
            if sink is not None and checkpoints is not None:
                await checkpoints.end_sentence(Said(text, result, clip.resume), sink)

        async def close_clip(deadline: Deadline) -> codec_pb2.WatermarkResult | None:
            if not clip.resume:  # an older codec, which reports each sentence by itself
                return None
            clip.continues = False
            failovers = self._failovers(has_listener=True)
            stream = CodecStream(plan.request_id, catalog, self._codec, self._pacing(), failovers, clip)
            return await stream.close(deadline)

        return TextSynthesis(
            plan,
            sentences,
            synthesis_of,
            (lambda text: None) if sink is None else sink.begin_sentence,
            end_sentence,
            close_clip,
            self._settings.max_remembered_sentences,
            earlier.said,
            decodes_earlier=earlier.place is None,
            begun=earlier.begun_sentence,
            deliver_of=deliver_of,
            field_of=field_of,
            silence=silence,
        )

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
