"""What came of a synthesis. Plain values; it knows no RPC and no backend."""

from __future__ import annotations

from dataclasses import dataclass

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """How a synthesis went. Times count from `arrived_at_s`."""

    complete: engine_pb2.GenerateComplete
    started: engine_pb2.GenerateStarted
    watermark: codec_pb2.WatermarkResult
    codes: rvq_pb2.CodeFrames
    queue_s: float
    first_audio_s: float
    total_s: float
