"""csm.v1.WatermarkService: tells whether a recording was made here. The keys never leave the codec."""

from __future__ import annotations

import asyncio

from csm.codec.v1 import codec_pb2
from csm.v1 import watermark_pb2, watermark_pb2_grpc

from services.common.rpc.calls import Context
from services.common.rpc.status import FieldViolation, invalid_argument
from services.gateway.rpc.recordings import read_recording
from services.gateway.settings import GatewaySettings
from services.gateway.stages.backends import Detects
from services.gateway.stages.errors import StageError
from services.gateway.synthesis.context_fields import recording_in_public_terms
from services.gateway.synthesis.deadline import Deadline


class WatermarkServicer(watermark_pb2_grpc.WatermarkServiceServicer):
    """Passes recordings to the codec."""

    def __init__(self, settings: GatewaySettings, codec: Detects) -> None:
        self._settings = settings
        self._codec = codec

    async def DetectWatermark(
        self, request: watermark_pb2.DetectWatermarkRequest, context: Context
    ) -> watermark_pb2.DetectWatermarkResponse:
        deadline = Deadline.of(context, self._settings.default_deadline_seconds)
        violations: list[FieldViolation] = []
        recording = await asyncio.to_thread(read_recording, "recording", request.recording, violations)
        if recording is None:
            raise invalid_argument(violations)
        detect = codec_pb2.DetectWatermarkRequest(
            samples=recording.samples,
            sample_format=recording.sample_format,
            sample_rate_hertz=recording.sample_rate_hz,
            key_ids=dict.fromkeys(request.key_ids),  # each once: every key that is looked for costs certainty and time
        )
        try:
            found = await self._codec.detect(detect, deadline.remaining_s)
        except StageError as error:
            raise recording_in_public_terms(error, "recording") from None
        return watermark_pb2.DetectWatermarkResponse(
            detected=found.detected, confidence=found.confidence, key_id=found.key_id
        )
