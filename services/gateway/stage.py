"""The gateway as a running stage: channels to engine and codec, servicers, server, readiness."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import grpc
from csm.codec.v1 import codec_pb2_grpc
from csm.engine.v1 import engine_pb2_grpc
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2

from services.common.followed_files import FollowedFiles
from services.common.process.memory import return_free_pages
from services.common.rpc.calls import Context
from services.common.rpc.incoming.lingering import IncomingMessages
from services.common.rpc.incoming.memory_guard import UNGUARDED, MemoryGuard
from services.common.rpc.incoming.one_request import Receive, add_to_server
from services.common.rpc.server import StageServer, StageService
from services.common.rpc.status import StatusError
from services.common.rpc.tls import Loaded, stage_credentials
from services.common.telemetry.metrics import StageMetrics
from services.common.telemetry.tracing import open_tracer
from services.gateway.auth.code_sealing import CodeSeal
from services.gateway.auth.quotas import EXCEEDED, StreamQuotas
from services.gateway.auth.tokens import BearerTokens
from services.gateway.budgets.arrivals import announced_bytes
from services.gateway.budgets.recording_budget import RecordingBudget
from services.gateway.metrics import GatewayMetrics
from services.gateway.rpc import servicer, voice_servicer, watermark_servicer
from services.gateway.rpc.planning import Planner
from services.gateway.rpc.servicer import TextToSpeechServicer
from services.gateway.rpc.voice_servicer import VoiceServicer
from services.gateway.rpc.watermark_servicer import WatermarkServicer
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import GrpcCodec, GrpcEngine
from services.gateway.stages.balancing import BY_CONVERSATION, BY_LOAD
from services.gateway.stages.catalog import CatalogSource
from services.gateway.stages.readiness import StageWatch, health_channel
from services.gateway.stages.reloading_channel import ReloadingChannel
from services.gateway.synthesis.deadline import Deadline
from services.gateway.voices.directory import VoiceDirectory
from services.gateway.voices.folder import VoiceFolder, voice_folder

if TYPE_CHECKING:
    from services.gateway.voices.store import VoiceStore

log = logging.getLogger("csm.gateway")

ENGINE_SERVICE = "csm.engine.v1.EngineService"
CODEC_SERVICE = "csm.codec.v1.CodecService"
INFO_TIMEOUT_S = 10.0
RECHECK_S = 2.0  # between two checks of stages that serve but did not fit together

UsedBytes = Callable[[int], int]
HOLDS_MODELS = "this process holds the models too, whose memory is no sign of what callers take"


class GatewayStage:
    """The running stage. It is ready while engine and codec are ready and of one bundle."""

    def __init__(self, settings: GatewaySettings, private_address: str, used_bytes: UsedBytes | str) -> None:
        """private_address: see StageServer. used_bytes: see start_gateway

        Raises KeyringError for the keys of sealing, OSError for another file of the settings that cannot be used, or
        when spans cannot be sent.
        """
        self.settings = settings
        metrics = StageMetrics()
        self._background = metrics.background
        gateway_metrics = GatewayMetrics(metrics.registry)
        tokens = _tokens(settings, gateway_metrics, metrics)
        tls = _stage_tls(settings, metrics)
        by_load, by_conversation = (
            ReloadingChannel(
                settings.engine_target,
                engine_pb2_grpc.EngineServiceStub,
                tls,
                policy=policy,
                health_service=ENGINE_SERVICE,
                silence_s=settings.stage_silence_seconds,
            )
            for policy in (BY_LOAD, BY_CONVERSATION)
        )
        codec_channel = ReloadingChannel(
            settings.codec_target,
            codec_pb2_grpc.CodecServiceStub,
            tls,
            policy=BY_LOAD,
            health_service=CODEC_SERVICE,
            silence_s=settings.stage_silence_seconds,
        )
        of_health = {
            name: health_channel(target, settings.stage_silence_seconds)
            for name, target in (("engine", settings.engine_health_target), ("codec", settings.codec_health_target))
        }
        self._channels: list[ReloadingChannel[Any]] = [by_load, by_conversation, codec_channel, *of_health.values()]
        engine = GrpcEngine(
            by_load,
            by_conversation,
            metrics=gateway_metrics,
            max_full=settings.max_full_replicas,
            silence_s=settings.stage_silence_seconds,
        )
        codec = GrpcCodec(
            codec_channel,
            metrics=gateway_metrics,
            max_full=settings.max_full_replicas,
            silence_s=settings.stage_silence_seconds,
        )
        self._catalogs = CatalogSource(engine, codec)
        quotas = _quotas(settings, tokens, gateway_metrics)
        seal = _seal(settings, metrics)
        folder = _voice_folder(settings, metrics)
        store = _store(settings)
        budget = RecordingBudget(settings, gateway_metrics)
        voices = VoiceDirectory(engine, codec, folder, store, gateway_metrics, budget.decode_prompt)
        planner = Planner(settings, codec, self._catalogs, voices, gateway_metrics, seal, budget)
        speech = TextToSpeechServicer(
            settings, engine, codec, self._catalogs, voices, gateway_metrics, quotas, planner, seal
        )
        self._kept = VoiceServicer(
            settings, codec, self._catalogs, voices, store, gateway_metrics, quotas, seal, budget
        )
        self._watermark = WatermarkServicer(settings, codec, quotas)

        def receive(requests: IncomingMessages, context: Context) -> AbstractAsyncContextManager[Any]:
            deadline = Deadline.of(context, settings)
            return budget.arrivals.receive(requests, deadline, announced_bytes(context))

        self.server = StageServer(
            settings,
            [
                _service(tts_pb2, "TextToSpeechService", speech, servicer.READ_LATE, receive),
                _service(watermark_pb2, "WatermarkService", self._watermark, watermark_servicer.READ_LATE, receive),
                _service(voices_pb2, "VoiceService", self._kept, voice_servicer.READ_LATE, receive),
            ],
            metrics,
            None if tokens is None else tokens.admit,
            open_tracer(settings, "gateway"),
            private_address=private_address,
            streams_per_connection=settings.max_streams_per_connection,
            guard=_guard(settings, used_bytes, gateway_metrics),
        )
        gateway_metrics.ready.set_function(lambda: self.server.is_ready)
        self._watches = [StageWatch(name, channel, self._on_health) for name, channel in of_health.items()]
        self._watching: list[asyncio.Task[None]] = []
        self._checking: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Raises OSError for a taken port, and for a database of voices that a later version has made."""
        await self._kept.count()  # PostgreSQL may come later; each call tries again
        await self.server.start()
        self._watching = [self._background.start(f"watch of the {watch.name}", watch.run) for watch in self._watches]

    async def wait_ready(self) -> None:
        """Returns when engine and codec serve and are of one bundle."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Drains, then closes the channels to the other stages."""
        await self.server.drain()
        await self._watermark.stop()
        await self._kept.stop()
        tasks = [*self._watching, *([self._checking] if self._checking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    def _on_health(self) -> None:
        """Restarts the check, because its result may be out of date."""
        if self._checking is not None:
            self._checking.cancel()
        self._catalogs.forget()
        if all(watch.serving for watch in self._watches):
            self._checking = self._background.start("check of the stages", self._check_until_they_fit)
        else:
            self._set_ready(False)

    async def _check_until_they_fit(self) -> None:
        """Repeats the check: a stage may report SERVING before its API port is reachable from here."""
        while not await self._stages_fit():
            self._set_ready(False)
            await asyncio.sleep(RECHECK_S)
        self._set_ready(True)

    def _set_ready(self, ready: bool) -> None:
        self.server.set_serving(ready)
        if ready:
            self._ready.set()
        else:
            self._ready.clear()

    async def _stages_fit(self) -> bool:
        try:
            await self._catalogs.get(INFO_TIMEOUT_S)
        except StatusError as error:
            log.error("not ready: %s", error.message)
            return False
        return True


def _guard(settings: GatewaySettings, used_bytes: UsedBytes | str, metrics: GatewayMetrics) -> MemoryGuard:
    if isinstance(used_bytes, str):
        if settings.max_heap_bytes:
            level = logging.INFO if used_bytes == HOLDS_MODELS else logging.WARNING
            log.log(level, "--max-heap-bytes is off: %s", used_bytes)
        return UNGUARDED
    return MemoryGuard(
        settings.max_heap_bytes,
        settings.max_receive_message_bytes,
        lambda: used_bytes(settings.max_heap_bytes),
        metrics.ended_waits.inc,
        return_free_pages,
    )


def _service(
    protos: ModuleType, name: str, servicer: object, read_late: Sequence[str], receive: Receive
) -> StageService:
    """read_late, receive: see add_to_server"""
    descriptor = protos.DESCRIPTOR.services_by_name[name]
    return StageService(add_to_server(descriptor, read_late, receive), servicer, descriptor.full_name)


def _stage_tls(
    settings: GatewaySettings, metrics: StageMetrics
) -> FollowedFiles[Loaded[grpc.ChannelCredentials]] | None:
    if settings.stage_tls_ca is None:
        return None
    reloads = metrics.file_reloads("stage_tls_ca")
    show_end = metrics.certificate_ends("stage_tls_certificate")
    own = settings.stage_tls_certificate, settings.stage_tls_key
    return stage_credentials(settings.stage_tls_ca, *own, reloads, show_end)


def _seal(settings: GatewaySettings, metrics: StageMetrics) -> CodeSeal | None:
    """Raises KeyringError."""
    reloads = metrics.file_reloads("code_sealing_keyring")
    return CodeSeal(settings.code_sealing_keyring, reloads) if settings.code_sealing == "sealed" else None


def _voice_folder(settings: GatewaySettings, metrics: StageMetrics) -> VoiceFolder | None:
    if settings.voices_folder is None:
        return None
    return voice_folder(settings.voices_folder, metrics.file_reloads("voices_folder"))


def _tokens(settings: GatewaySettings, metrics: GatewayMetrics, of_stage: StageMetrics) -> BearerTokens | None:
    if settings.auth_tokens_file is None:
        return None
    if settings.tls_certificate is None:
        log.warning("tokens are taken over plaintext: without TLS in front of this port, the network can read them")
    return BearerTokens(settings.auth_tokens_file, metrics, of_stage.file_reloads("auth_tokens_file"))


def _store(settings: GatewaySettings) -> VoiceStore | None:
    """Raises VoicesDatabaseError."""
    if not settings.voices_database:
        return None
    from services.gateway.voices.store import VoiceStore  # its libraries take 30 MiB

    return VoiceStore(settings.voices_database)


def _quotas(settings: GatewaySettings, tokens: BearerTokens | None, metrics: GatewayMetrics) -> StreamQuotas:
    """Limits by name. Callers without a token have no name, and no limit."""

    def limit_of(caller: str) -> int:
        own = tokens.max_streams(caller) if tokens is not None else None
        return own if own is not None else settings.max_streams_per_caller

    return StreamQuotas(limit_of, metrics.refused.labels(EXCEEDED).inc)


async def start_gateway(
    settings: GatewaySettings, private_address: str = "", used_bytes: UsedBytes | str = HOLDS_MODELS
) -> GatewayStage:
    """Starts the stage. It listens at once; its readiness follows engine and codec.

    private_address: see StageServer. used_bytes: memory of the process, if it is more than the argument, else 0; or
    why that is not known, which is logged: calls are not ended for want of memory then
    """
    stage = GatewayStage(settings, private_address, used_bytes)
    try:
        await stage.start()
    except BaseException:
        await stage.stop()
        raise
    return stage
