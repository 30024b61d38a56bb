"""The servicer of csm.v1.TextToSpeechService: synthesis, voices, server info.

A method checks the request, plans, runs and answers. Synthesis itself is in `services.gateway.synthesis`.
"""

from __future__ import annotations

import asyncio
import json
import re

from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context, caller_name, is_uuid
from services.common.rpc.status import FieldViolation, invalid_argument
from services.common.telemetry import logs
from services.gateway.audio.encodings import ENCODINGS, sample_rates_hz
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.limits import unary_seconds
from services.gateway.requests.sampling import default_sampling
from services.gateway.requests.validation import Request, asked_speaker, plan_synthesis
from services.gateway.rpc import responses as convert
from services.gateway.rpc.instrumented_run import instrumented_run
from services.gateway.rpc.sinks import Response, StreamSink, WholeSink
from services.gateway.rpc.text_stream import Requests, read_config, read_sentences
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import CodecStream
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing
from services.gateway.synthesis.failover import FailoverLimits, Failovers
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Codec, Deliver, Engine, Synthesis
from services.gateway.synthesis.text_synthesis import BeforeDecoding, TextSynthesis
from services.gateway.voices.directory import VoiceDirectory

MAX_VOICES_PER_PAGE = 100
_PAGE_TOKEN = re.compile(r"[0-9]{0,9}")


class TextToSpeechServicer(tts_pb2_grpc.TextToSpeechServiceServicer):
    """The servicer. It is stateless: data of a request lives only as long as its call."""

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        codec: Codec,
        catalogs: CatalogSource,
        voices: VoiceDirectory,
        metrics: GatewayMetrics,
        quotas: StreamQuotas,
        seal: CodeSeal | None,
    ) -> None:
        """seal: with --code-sealing=sealed"""
        self._settings = settings
        self._engine = engine
        self._codec = codec
        self._catalogs = catalogs
        self._voices = voices
        self._metrics = metrics
        self._quotas = quotas
        self._seal = seal

    async def Synthesize(self, request: tts_pb2.SynthesizeRequest, context: Context) -> tts_pb2.SynthesizeResponse:
        with self._quotas.one_more(caller_name.get()):
            deadline = self._deadline(context)
            plan, catalog = await self._plan(request, deadline)
            sink = WholeSink(plan, catalog)
            result = await self._run(self._synthesis(plan, catalog), plan, catalog, deadline, sink.deliver)
            return sink.response(result)

    async def StreamSynthesize(self, request: tts_pb2.StreamSynthesizeRequest, context: Context) -> None:
        with self._quotas.one_more(caller_name.get()):
            deadline = self._deadline(context)
            plan, catalog = await self._plan(request, deadline)
            sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeResponse)
            result = await self._run(self._synthesis(plan, catalog), plan, catalog, deadline, sink.deliver)
            await sink.finish(result)

    async def StreamSynthesizeText(self, requests: Requests, context: Context) -> None:
        with self._quotas.one_more(caller_name.get()):
            deadline = self._deadline(context)
            idle_s = self._settings.text_idle_seconds
            config = await read_config(requests, idle_s)
            plan, catalog = await self._plan(config, deadline, words_follow=True)
            sentences = read_sentences(
                requests, plan.language_code, self._settings.max_text_length, idle_s, lambda: text.is_speaking
            )
            sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeTextResponse)
            clip = Clip(continues=True)

            def synthesis_of(sentence: SynthesisPlan, before_decoding: BeforeDecoding, goes_on: bool) -> Synthesis:
                return self._synthesis(sentence, catalog, before_decoding, clip, waits_when_full=goes_on)

            async def close_clip(deadline: Deadline) -> codec_pb2.WatermarkResult | None:
                if not clip.resume:  # an older codec, which reports each sentence by itself
                    return None
                clip.continues = False
                failovers = self._failovers(waits_when_full=True)
                stream = CodecStream(plan.request_id, catalog, self._codec, self._pacing(), failovers, clip)
                return await stream.close(deadline)

            remembered = self._settings.max_remembered_sentences
            text = TextSynthesis(plan, sentences, synthesis_of, sink.begin_sentence, close_clip, remembered)
            result = await self._run(text, plan, catalog, deadline, sink.deliver)
            await sink.finish(result)

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Context) -> tts_pb2.ListVoicesResponse:
        catalog = await self._catalogs.get(self._deadline(context).remaining_s)
        voices = await self._voices.usable_by(caller_name.get(), request.language_code, catalog)
        first, size = _page(request)
        page = voices[first : first + size]
        more = first + size < len(voices)
        return tts_pb2.ListVoicesResponse(
            voices=[convert.listed_voice(voice, catalog) for voice in page],
            next_page_token=str(first + size) if more else "",
        )

    async def GetServerInfo(
        self, request: tts_pb2.GetServerInfoRequest, context: Context
    ) -> tts_pb2.GetServerInfoResponse:
        catalog = await self._catalogs.get(self._deadline(context).remaining_s)
        voices = catalog.voices("")
        return tts_pb2.GetServerInfoResponse(
            model_version=catalog.model.model_version,
            model_notice=catalog.notice,
            default_voice=voices[0].name if voices else "",
            natural_sample_rate_hertz=catalog.sample_rate_hz,
            audio_encodings=list(ENCODINGS),
            sample_rates_hertz=sample_rates_hz(tts_pb2.AUDIO_ENCODING_PCM, catalog.sample_rate_hz),
            watermark=tts_pb2.WatermarkInfo(scheme=catalog.codec.watermark_scheme, key_id=catalog.codec.active_key_id),
            limits=self._limits(catalog),
            default_sampling_params=default_sampling(catalog, self._settings),
        )

    def _limits(self, catalog: Catalog) -> tts_pb2.SynthesisLimits:
        longest_s = self._settings.max_stream_audio_seconds
        return tts_pb2.SynthesisLimits(
            max_text_length=self._settings.max_text_length,
            max_turn_count=self._settings.max_turn_count,
            max_context_audio_duration=convert.duration(self._settings.max_context_audio_seconds),
            max_stream_audio_duration=convert.duration(longest_s),
            max_unary_audio_duration=convert.duration(unary_seconds(2 * catalog.sample_rate_hz, longest_s)),
        )

    def _deadline(self, context: Context) -> Deadline:
        return Deadline.of(context, self._settings.default_deadline_seconds, self._settings.max_deadline_seconds)

    async def _plan(
        self, request: Request, deadline: Deadline, *, words_follow: bool = False
    ) -> tuple[SynthesisPlan, Catalog]:
        if is_uuid(request.request_id):
            logs.request_id.set(request.request_id)
        deadline.require(self._settings.min_first_audio_seconds)
        catalog = await self._catalogs.get(deadline.remaining_s)
        caller, speaker = caller_name.get(), asked_speaker(request)
        voice = await self._voices.choose(request.voice, speaker, catalog, caller, deadline.remaining_s)
        given = (request, logs.request_id.get(), catalog, self._settings, self._seal, voice)
        if any(
            turn.audio.HasField("recording") for turn in request.context.turns
        ):  # decoding takes too long for the event loop
            plan = await asyncio.to_thread(plan_synthesis, *given, caller=caller, words_follow=words_follow)
        else:
            plan = plan_synthesis(*given, caller=caller, words_follow=words_follow)
        if plan.conversation:
            logs.annotate(conversation=plan.conversation)
        if request.labels:  # few and short: the plan has checked them
            logs.annotate(labels=json.dumps(dict(request.labels)))
        return plan, catalog

    def _synthesis(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        before_decoding: BeforeDecoding | None = None,
        clip: Clip | None = None,
        *,
        waits_when_full: bool = False,
    ) -> Synthesis:
        failovers = self._failovers(waits_when_full=waits_when_full)
        return Synthesis(plan, catalog, self._engine, self._codec, self._pacing(), failovers, before_decoding, clip)

    def _sink(self, context: Context, plan: SynthesisPlan, catalog: Catalog, response: type[Response]) -> StreamSink:
        timeout_s, least_pace = self._settings.write_timeout_seconds, self._settings.min_listener_pace
        return StreamSink(context, plan, catalog, timeout_s, response, least_pace=least_pace)

    def _pacing(self) -> DecodePacing:
        settings = self._settings
        return DecodePacing(
            settings.decode_ahead_frames,
            settings.slot_patience_seconds,
            lambda event: self._metrics.decode_slots.labels(event).inc(),
        )

    def _failovers(self, *, waits_when_full: bool) -> Failovers:
        """waits_when_full: for streams whose caller already has audio"""
        return Failovers(
            FailoverLimits(
                self._settings.max_failovers, self._settings.failover_wait_seconds, self._settings.full_wait_seconds
            ),
            lambda stage, outcome: self._metrics.failovers.labels(stage.lower(), outcome).inc(),
            waits_when_full=waits_when_full,
        )

    async def _run(
        self,
        synthesis: Synthesis | TextSynthesis,
        plan: SynthesisPlan,
        catalog: Catalog,
        deadline: Deadline,
        deliver: Deliver,
    ) -> SynthesisResult:
        logs.annotate(voice=plan.voice, turns=len(plan.turns))
        return await instrumented_run(synthesis, catalog, deadline, deliver, self._metrics)


def _page(request: tts_pb2.ListVoicesRequest) -> tuple[int, int]:
    """First index and size of the requested page."""
    violations = []
    if request.page_size < 0:
        violations.append(FieldViolation("page_size", f"is {request.page_size}; it must not be negative."))
    if not _PAGE_TOKEN.fullmatch(request.page_token):
        violations.append(FieldViolation("page_token", "is not a token that an earlier response gave."))
    if violations:
        raise invalid_argument(violations)
    size = min(request.page_size or MAX_VOICES_PER_PAGE, MAX_VOICES_PER_PAGE)
    return int(request.page_token or 0), size
