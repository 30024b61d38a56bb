"""The servicer of csm.v1.TextToSpeechService: synthesis, voices, server info.

A method checks the request, plans, runs and answers. Synthesis itself is in `services.gateway.synthesis`.
"""

from __future__ import annotations

from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common import values
from services.common.rpc.calls import Context, caller_name
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.telemetry import logs, spans
from services.gateway.audio.encodings import ENCODINGS, sample_rates_hz
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.budgets.arrivals import announced_bytes
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.limits import unary_seconds
from services.gateway.requests.pages import requested_page
from services.gateway.requests.sampling import default_sampling
from services.gateway.rpc import responses
from services.gateway.rpc.checkpoints.texts import ResumedText, TextCheckpoints
from services.gateway.rpc.checkpoints.utterances import ResumedUtterance, UtteranceCheckpoints
from services.gateway.rpc.checkpoints.whole_texts import WholeTextCheckpoints
from services.gateway.rpc.instrumented_run import Finish, counted, instrumented_run
from services.gateway.rpc.planning import Planner
from services.gateway.rpc.sinks import Response, StreamSink, WholeSink
from services.gateway.rpc.syntheses import Syntheses
from services.gateway.rpc.text_stream import read_config, read_sentences
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog, CatalogSource
from services.gateway.synthesis.codec_stream import Codec
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver, Engine, Synthesis
from services.gateway.synthesis.texts.sentences import one_by_one
from services.gateway.synthesis.texts.text_synthesis import TextSynthesis, field_of_text
from services.gateway.voices.directory import VoiceDirectory

READ_LATE = ("Synthesize", "StreamSynthesize")  # see add_to_server
_NEW_TEXT, _NEW_UTTERANCE = ResumedText(), ResumedUtterance()
_Stream = tuple[SynthesisPlan, Synthesis | TextSynthesis, Deliver, Finish]  # the plan is without checkpoints


class TextToSpeechServicer(tts_pb2_grpc.TextToSpeechServiceServicer):
    """The servicer. It is stateless: the data of a request lives as long as its call."""

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        codec: Codec,
        catalogs: CatalogSource,
        voices: VoiceDirectory,
        metrics: GatewayMetrics,
        quotas: StreamQuotas,
        planner: Planner,
        seal: CodeSeal | None,
    ) -> None:
        """seal: with --code-sealing=sealed"""
        self._settings = settings
        self._catalogs = catalogs
        self._voices = voices
        self._metrics = metrics
        self._quotas = quotas
        self._planner = planner
        self._syntheses = Syntheses(settings, engine, codec, metrics)
        self._seal = seal

    async def Synthesize(self, requests: IncomingMessages, context: Context) -> tts_pb2.SynthesizeResponse:
        """requests: an iterator over the one request, which is received when it is read"""
        async with self._quotas.one_more(caller_name.get()):
            deadline = Deadline.of(context, self._settings)
            plan, catalog = await self._planner.plan(requests, deadline, announced_bytes(context))
            sink = WholeSink(plan, catalog)
            synthesis: Synthesis | TextSynthesis
            if plan.is_text:
                synthesis = self._syntheses.of_text(plan, catalog, one_by_one(plan.sentences))
            else:
                synthesis = self._syntheses.of_utterance(plan, catalog, arrived_at_s=plan.arrived_at_s)
            result = await self._run(synthesis, plan, catalog, deadline, sink.deliver)
            return sink.response(result)

    async def StreamSynthesize(self, requests: IncomingMessages, context: Context) -> None:
        """requests: as for Synthesize"""
        async with self._quotas.one_more(caller_name.get()):
            deadline = Deadline.of(context, self._settings)
            plan, catalog = await self._planner.plan(requests, deadline, announced_bytes(context))
            with counted(self._metrics, lambda: "request"):
                plan, synthesis, deliver, finish = (self._whole_text if plan.is_text else self._utterance)(
                    plan, catalog, context
                )
            await self._run(synthesis, plan, catalog, deadline, deliver, finish)

    def _utterance(self, plan: SynthesisPlan, catalog: Catalog, context: Context) -> _Stream:
        checkpoints, resumed = None, _NEW_UTTERANCE
        if seal := self._seal_for(plan):
            checkpoints = UtteranceCheckpoints.of(seal, plan, catalog)
            resumed = checkpoints.open(plan.checkpoints)
        self._report_resumed(plan, "utterance", resumed)
        plan = plan.without_checkpoints
        sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeResponse, resumed)
        synthesis = self._syntheses.of_utterance(
            plan,
            catalog,
            resumed.clip(),
            resumed.state,
            has_listener=resumed.state is not None,
            arrived_at_s=plan.arrived_at_s,
        )
        deliver = sink.deliver if checkpoints is None else checkpoints.deliver_with_checkpoints(synthesis, sink)
        return plan, synthesis, deliver, sink.finish

    def _whole_text(self, plan: SynthesisPlan, catalog: Catalog, context: Context) -> _Stream:
        checkpoints, resumed = None, _NEW_TEXT
        if seal := self._seal_for(plan):
            checkpoints = WholeTextCheckpoints(seal, plan, catalog, self._settings.max_remembered_sentences)
            resumed = checkpoints.open(plan.checkpoints)
        self._report_resumed(plan, "text", resumed)
        plan = plan.without_checkpoints
        sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeResponse, resumed)
        text = self._syntheses.of_text(plan, catalog, one_by_one(plan.sentences), resumed, sink, checkpoints)
        return plan, text, sink.deliver, sink.finish

    async def StreamSynthesizeText(self, requests: IncomingMessages, context: Context) -> None:
        async with self._quotas.one_more(caller_name.get()):
            deadline = Deadline.of(context, self._settings)
            idle_s = self._settings.text_idle_seconds
            plan, catalog = await self._planner.plan(
                requests,
                deadline,
                announced_bytes(context),
                lambda given: read_config(given, idle_s),
                words_follow=True,
            )
            sentences = read_sentences(
                requests, plan.language_code, self._settings.max_text_length, idle_s, lambda: text.is_speaking
            )
            checkpoints, resumed = None, _NEW_TEXT
            if seal := self._seal_for(plan):
                checkpoints = TextCheckpoints(seal, plan, catalog, self._settings.max_remembered_sentences)
                with counted(self._metrics, lambda: "request"):
                    resumed = checkpoints.open(plan.checkpoints, plan.speech_checkpoints)
            self._report_resumed(plan, "text", resumed)
            plan = plan.without_checkpoints
            sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeTextResponse, resumed)
            text = self._syntheses.of_text(plan, catalog, sentences, resumed, sink, checkpoints, field_of=field_of_text)
            await self._run(text, plan, catalog, deadline, sink.deliver, sink.finish)

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Context) -> tts_pb2.ListVoicesResponse:
        catalog = await self._catalogs.get(Deadline.of(context, self._settings).remaining_s)
        start, size = requested_page(request)
        page, following = await self._voices.page(caller_name.get(), request.language_code, catalog, start, size)
        return tts_pb2.ListVoicesResponse(
            voices=[responses.listed_voice(voice, catalog) for voice in page],
            next_page_token="" if following is None else following.token,
        )

    async def GetServerInfo(
        self, request: tts_pb2.GetServerInfoRequest, context: Context
    ) -> tts_pb2.GetServerInfoResponse:
        catalog = await self._catalogs.get(Deadline.of(context, self._settings).remaining_s)
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
            max_context_audio_duration=values.seconds(self._settings.max_context_audio_seconds),
            max_stream_audio_duration=values.seconds(longest_s),
            max_utterance_audio_duration=values.seconds(min(longest_s, self._settings.max_utterance_audio_seconds)),
            max_unary_audio_duration=values.seconds(unary_seconds(2 * catalog.sample_rate_hz, longest_s)),
        )

    def _seal_for(self, plan: SynthesisPlan) -> CodeSeal | None:
        """Seals checkpoints. None without keys, and if the request neither has nor wants checkpoints."""
        return self._seal if plan.send_checkpoints or plan.checkpoints or plan.speech_checkpoints else None

    def _report_resumed(self, plan: SynthesisPlan, kind: str, resumed: ResumedText | ResumedUtterance) -> None:
        if plan.heard_frames or plan.checkpoints or plan.speech_checkpoints:
            self._metrics.resumed_streams.labels(kind, resumed.at).inc()
            logs.annotate(resumed_parts=resumed.parts)
            spans.event("stream resumed", kind=kind, parts=resumed.parts, at=resumed.at)

    def _sink(
        self,
        context: Context,
        plan: SynthesisPlan,
        catalog: Catalog,
        response: type[Response],
        resumed: ResumedText | ResumedUtterance,
    ) -> StreamSink:
        return StreamSink(
            context,
            plan,
            catalog,
            self._settings.write_timeout_seconds,
            response,
            least_pace=self._settings.min_listener_pace,
            place=resumed.place,
            resumed=resumed.header(),
        )

    async def _run(
        self,
        synthesis: Synthesis | TextSynthesis,
        plan: SynthesisPlan,
        catalog: Catalog,
        deadline: Deadline,
        deliver: Deliver,
        finish: Finish | None = None,
    ) -> SynthesisResult:
        logs.annotate(voice=plan.voice, turns=len(plan.turns))
        with self._catalogs.forgotten_if_wrong():
            return await instrumented_run(synthesis, catalog, deadline, deliver, self._metrics, finish)
