"""The codec stage as a whole: loads and warms up, listens, serves. Importing it loads torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from services.codec.admission import Admission
from services.codec.async_codec import AsyncCodec
from services.codec.load import LoadedCodec, load_codec
from services.codec.metrics import CodecMetrics
from services.codec.recordings.detection import WatermarkSearch
from services.codec.recordings.encoding import RecordingEncoder
from services.codec.recordings.worker import RecordingWorker
from services.codec.servicer import CodecServicer
from services.codec.settings import CodecSettings
from services.common.rpc.server import StageServer, StageService
from services.common.telemetry.metrics import StageMetrics
from services.common.telemetry.tracing import open_tracer

SERVICE = codec_pb2.DESCRIPTOR.services_by_name["CodecService"].full_name

Load = Callable[[CodecSettings, Callable[[bool], None]], LoadedCodec]

log = logging.getLogger("csm.codec")


class CodecStage:
    """A running codec stage."""

    def __init__(self, server: StageServer, async_codec: AsyncCodec, recordings: RecordingWorker) -> None:
        self.server = server
        self.async_codec = async_codec
        self._recordings = recordings

    async def stop(self) -> None:
        """Lets running calls end, then ends the threads."""
        await self.server.drain()
        await asyncio.gather(self.async_codec.stop(), self._recordings.stop())  # one wait, also if both hang


async def start_codec(settings: CodecSettings, load: Load = load_codec) -> CodecStage:
    """Loads the networks and keys, then listens and serves.

    load: makes the codec. It is called in another thread, with the settings and what hears of reloads of the keyring.
    Raises: CsmError when bundle or keys cannot be loaded; OSError when a port is taken or spans cannot be sent.
    """
    tracer = open_tracer(settings, "codec")
    metrics = StageMetrics()
    loaded = await asyncio.to_thread(load, settings, metrics.file_reloads("watermark_keyring"))
    codec_metrics = CodecMetrics(metrics.registry)

    async_codec = AsyncCodec(
        loaded.codecs,
        torch_threads=loaded.torch_threads,
        max_waiting=settings.max_waiting_streams,
        on_step=codec_metrics.observe_step,
        on_end=codec_metrics.observe_end,
        on_failure=lambda error: server.fail(error),
        on_stall=lambda thread, stalled: server.set_stalled(thread, stalled),
        stall_s=settings.stall_seconds,
        background=metrics.background,
    )
    codec_metrics.active_streams.set_function(lambda: async_codec.num_streams)
    codec_metrics.waiting_streams.set_function(lambda: async_codec.admission.num_waiting)
    recordings = RecordingWorker(
        settings.max_waiting,
        on_failure=lambda error: server.fail(error),
        on_stall=lambda thread, stalled: server.set_stalled(thread, stalled),
        stall_s=settings.recording_stall_seconds,
        background=metrics.background,
    )
    servicer = CodecServicer(
        loaded,
        async_codec,
        RecordingEncoder(loaded, recordings, codec_metrics, settings.max_recording_seconds),
        WatermarkSearch(
            loaded,
            recordings,
            Admission(settings.max_detections, settings.max_waiting, "searches"),
            codec_metrics,
            settings.max_detection_seconds,
        ),
        max_recording_seconds=settings.max_recording_seconds,
        require_full_watermark=settings.require_full_watermark,
        max_batch_frames=settings.max_batch_frames,
    )
    service = StageService(codec_pb2_grpc.add_CodecServiceServicer_to_server, servicer, SERVICE)
    server = StageServer(settings, [service], metrics, tracer=tracer, for_gateways=True)
    stage = CodecStage(server, async_codec, recordings)
    try:
        await server.start()
    except BaseException:
        await stage.stop()
        raise
    server.set_serving()
    log.info(
        "ready: %s, %d slots in %d threads on %s",
        loaded.bundle.name,
        async_codec.admission.num_slots,
        len(async_codec.threads),
        settings.device,
    )
    return stage
