"""The servicer of csm.v1.TextToSpeechService: synthesis, voices, server info.

A method checks the request, plans, runs and answers. Synthesis itself is in `services.gateway.synthesis`.
"""

from __future__ import annotations

from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common import values
from services.common.rpc.calls import Context, caller_name
from services.common.rpc.lingering import IncomingMessages
from services.common.telemetry import logs, spans
from services.gateway.audio.encodings import ENCODINGS, sample_rates_hz
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.auth.quotas import StreamQuotas
from services.gateway.metrics import GatewayMetrics
from services.gateway.requests.limits import unary_seconds
from services.gateway.requests.pages import requested_page
from services.gateway.requests.sampling import default_sampling
from services.gateway.rpc import responses as convert
from services.gateway.rpc.arrivals import announced_bytes
from services.gateway.rpc.checkpoints.texts import Earlier, TextCheckpoints
from services.gateway.rpc.checkpoints.utterances import Begun, UtteranceCheckpoints
from services.gateway.rpc.instrumented_run import Finish, instrumented_run, nothing_more
from services.gateway.rpc.planning import Planner
from services.gateway.rpc.sinks import Response, StreamSink, WholeSink
from services.gateway.rpc.text_stream import read_config, read_sentences
from services.gateway.settings import GatewaySettings
from services.gateway.stages.catalog import Catalog, CatalogSource
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
from services.gateway.synthesis.texts.text_synthesis import BeforeDecoding, TextSynthesis
from services.gateway.voices.directory import VoiceDirectory

READ_LATE = ("Synthesize", "StreamSynthesize")  # methods of one request, which they receive when they read it
_NOTHING_SAID, _NOTHING_BEGUN = Earlier(), Begun()


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
        planner: Planner,
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
        self._planner = planner
        self._seal = seal

    async def Synthesize(self, requests: IncomingMessages, context: Context) -> tts_pb2.SynthesizeResponse:
        """requests: the one message of a unary call, received only when it is read."""
        async with self._quotas.one_more(caller_name.get()):
            deadline = Deadline.of(context, self._settings)
            plan, catalog = await self._planner.plan(requests, deadline, announced_bytes(context))
            sink = WholeSink(plan, catalog)
            synthesis = self._synthesis(plan, catalog, arrived_at_s=plan.arrived_at_s)
            result = await self._run(synthesis, plan, catalog, deadline, sink.deliver)
            return sink.response(result)

    async def StreamSynthesize(self, requests: IncomingMessages, context: Context) -> None:
        """requests: as for Synthesize"""
        async with self._quotas.one_more(caller_name.get()):
            deadline = Deadline.of(context, self._settings)
            plan, catalog = await self._planner.plan(requests, deadline, announced_bytes(context))
            checkpoints = UtteranceCheckpoints.of(seal, plan, catalog) if (seal := self._seal_for(plan)) else None
            begun = _NOTHING_BEGUN if checkpoints is None else checkpoints.open(plan.checkpoints)
            self._report_resumed(plan, "utterance", begun)
            plan = plan.without_checkpoints
            sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeResponse, begun)
            synthesis = self._synthesis(
                plan,
                catalog,
                clip=begun.clip(),
                has_listener=begun.made is not None,
                arrived_at_s=plan.arrived_at_s,
                made=begun.made,
            )
            deliver = sink.deliver if checkpoints is None else checkpoints.between(synthesis, sink)
            await self._run(synthesis, plan, catalog, deadline, deliver, sink.finish)

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
            most = self._settings.max_remembered_sentences
            checkpoints = TextCheckpoints(seal, plan, catalog, most) if (seal := self._seal_for(plan)) else None
            earlier = _NOTHING_SAID
            if checkpoints is not None:
                earlier = checkpoints.open(plan.checkpoints, plan.speech_checkpoints)
            self._report_resumed(plan, "text", earlier)
            plan = plan.without_checkpoints
            sink = self._sink(context, plan, catalog, tts_pb2.StreamSynthesizeTextResponse, earlier)
            clip = earlier.clip()

            def synthesis_of(
                sentence: SynthesisPlan, before_decoding: BeforeDecoding, goes_on: bool, made: Made | None
            ) -> Synthesis:
                return self._synthesis(sentence, catalog, before_decoding, clip, has_listener=goes_on, made=made)

            def deliver_of(synthesis: Synthesis, text: str, is_inside: bool) -> Deliver:
                return sink.deliver if checkpoints is None else checkpoints.between(synthesis, text, sink, is_inside)

            async def end_sentence(text: str, result: SynthesisResult) -> None:
                if checkpoints is not None:
                    await checkpoints.end_sentence(Said(text, result, clip.resume), sink)

            async def close_clip(deadline: Deadline) -> codec_pb2.WatermarkResult | None:
                if not clip.resume:  # an older codec, which reports each sentence by itself
                    return None
                clip.continues = False
                failovers = self._failovers(has_listener=True)
                stream = CodecStream(plan.request_id, catalog, self._codec, self._pacing(), failovers, clip)
                return await stream.close(deadline)

            text = TextSynthesis(
                plan,
                sentences,
                synthesis_of,
                sink.begin_sentence,
                end_sentence,
                close_clip,
                most,
                earlier.said,
                decodes_earlier=earlier.place is None,
                begun=earlier.begun_sentence,
                deliver_of=deliver_of,
            )
            await self._run(text, plan, catalog, deadline, sink.deliver, sink.finish)

    async def ListVoices(self, request: tts_pb2.ListVoicesRequest, context: Context) -> tts_pb2.ListVoicesResponse:
        catalog = await self._catalogs.get(Deadline.of(context, self._settings).remaining_s)
        voices = await self._voices.usable_by(caller_name.get(), request.language_code, catalog)
        first, size = requested_page(request)
        page = voices[first : first + size]
        more = first + size < len(voices)
        return tts_pb2.ListVoicesResponse(
            voices=[convert.listed_voice(voice, catalog) for voice in page],
            next_page_token=str(first + size) if more else "",
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
            max_unary_audio_duration=values.seconds(unary_seconds(2 * catalog.sample_rate_hz, longest_s)),
        )

    def _synthesis(
        self,
        plan: SynthesisPlan,
        catalog: Catalog,
        before_decoding: BeforeDecoding | None = None,
        clip: Clip | None = None,
        *,
        has_listener: bool = False,
        arrived_at_s: float | None = None,
        made: Made | None = None,
    ) -> Synthesis:
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

    def _seal_for(self, plan: SynthesisPlan) -> CodeSeal | None:
        """Of checkpoints. None where there are no keys to seal them with, or nobody asks for them."""
        return self._seal if plan.send_checkpoints or plan.checkpoints or plan.speech_checkpoints else None

    def _report_resumed(self, plan: SynthesisPlan, kind: str, earlier: Earlier | Begun) -> None:
        if plan.heard_frames or plan.checkpoints or plan.speech_checkpoints:
            self._metrics.resumed_streams.labels(kind, earlier.at).inc()
            logs.annotate(resumed_parts=earlier.parts)
            spans.event("stream resumed", kind=kind, parts=earlier.parts, at=earlier.at)

    def _sink(
        self,
        context: Context,
        plan: SynthesisPlan,
        catalog: Catalog,
        response: type[Response],
        earlier: Earlier | Begun,
    ) -> StreamSink:
        return StreamSink(
            context,
            plan,
            catalog,
            self._settings.write_timeout_seconds,
            response,
            least_pace=self._settings.min_listener_pace,
            place=earlier.place,
            resumed=earlier.header(),
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

    async def _run(
        self,
        synthesis: Synthesis | TextSynthesis,
        plan: SynthesisPlan,
        catalog: Catalog,
        deadline: Deadline,
        deliver: Deliver,
        finish: Finish = nothing_more,
    ) -> SynthesisResult:
        logs.annotate(voice=plan.voice, turns=len(plan.turns))
        with self._catalogs.forgotten_if_wrong():
            return await instrumented_run(synthesis, catalog, deadline, deliver, self._metrics, finish)
