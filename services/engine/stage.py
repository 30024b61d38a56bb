"""The engine stage as a whole: loads and warms up, listens, serves. Importing it loads torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from csm_bundle.manifest import Voice
from csm_bundle.voice_folder import FolderVoice
from services.common import values
from services.common.rpc.server import StageServer, StageService
from services.common.telemetry.metrics import StageMetrics
from services.common.telemetry.tracing import open_tracer
from services.engine.async_engine import AsyncEngine
from services.engine.convert import from_recommended
from services.engine.load import LoadedEngine, load_engine
from services.engine.metrics import EngineMetrics
from services.engine.servicer import EngineServicer
from services.engine.settings import EngineSettings

SERVICE = engine_pb2.DESCRIPTOR.services_by_name["EngineService"].full_name

Load = Callable[[EngineSettings, Callable[[bool], None]], LoadedEngine]

log = logging.getLogger("csm.engine")


class EngineStage:
    """A running engine stage."""

    def __init__(self, server: StageServer, async_engine: AsyncEngine) -> None:
        self.server = server
        self.async_engine = async_engine

    async def stop(self) -> None:
        """Lets running calls end, then ends the engine thread."""
        await self.server.drain()
        await self.async_engine.stop()


async def start_engine(settings: EngineSettings, load: Load = load_engine) -> EngineStage:
    """Loads the model, then listens and serves.

    load: makes the engine. It is called in another thread, with the settings and what hears of reloads of the lexicon.
    Raises: CsmError when the bundle cannot be loaded; OSError when a port is taken, spans cannot be sent or the lexicon
    cannot be used.
    """
    tracer = open_tracer(settings, "engine")
    metrics = StageMetrics()
    loaded = await asyncio.to_thread(load, settings, metrics.file_reloads("lexicon"))
    engine_metrics = EngineMetrics(metrics.registry)
    async_engine = AsyncEngine(
        loaded.engine,
        on_step=engine_metrics.observe_step,
        on_failure=lambda error: server.fail(error),
        on_stall=lambda thread, stalled: server.set_stalled(thread, stalled),
        stall_s=settings.stall_seconds,
        reading_stall_s=settings.reading_stall_seconds,
        background=metrics.background,
    )
    engine_metrics.active_slots.set_function(lambda: async_engine.thread.load()[0])
    engine_metrics.queue_depth.set_function(lambda: async_engine.thread.load()[1])
    engine_metrics.offloaded_bytes.set_function(lambda: loaded.engine.offloaded_bytes)
    servicer = EngineServicer(
        async_engine,
        _model_info(loaded, settings),
        engine_metrics,
        spoken_text=loaded.spoken_text,
        prompted_voices=loaded.prompted_voices,
        max_batch_frames=settings.max_batch_frames,
    )
    service = StageService(engine_pb2_grpc.add_EngineServiceServicer_to_server, servicer, SERVICE)
    server = StageServer(settings, [service], metrics, tracer=tracer, for_gateways=True)
    stage = EngineStage(server, async_engine)
    try:
        await server.start()
    except BaseException:
        await stage.stop()
        raise
    server.set_serving()
    log.info("ready: %s, %d slots on %s", loaded.bundle.name, settings.slots, settings.device)
    return stage


def _model_info(loaded: LoadedEngine, settings: EngineSettings) -> engine_pb2.GetModelInfoResponse:
    return engine_pb2.GetModelInfoResponse(
        model_version=f"{loaded.bundle.name}/{loaded.bundle.version}",
        weights_digest=loaded.weights_digest,
        context_window_size=loaded.model_config.max_seq_len,
        codec=values.from_identity(loaded.codec),
        max_running_sequence_count=settings.slots,
        max_waiting_sequence_count=settings.max_waiting,
        voices=[
            *(_voice(voice) for voice in loaded.bundle.voices),
            *(_voice(voice, voice.digest) for voice in loaded.prompted_voices),
        ],
        notice=loaded.notice,
        recommended_sampling_params=from_recommended(loaded.bundle.sampling),
    )


def _voice(voice: Voice | FolderVoice, prompt_digest: str = "") -> engine_pb2.Voice:
    return engine_pb2.Voice(
        name=voice.name,
        speaker_id=voice.speaker,
        language_codes=voice.language_codes,
        description=voice.description,
        seed=voice.seed,
        prompt_digest=prompt_digest,
    )
