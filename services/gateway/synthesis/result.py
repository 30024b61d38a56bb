"""The result of a synthesis, as plain values. It knows no RPC and no backend."""

from __future__ import annotations

from dataclasses import dataclass

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """The codes, the watermark and the times of a synthesis. Times count from the arrival of the call; `queue_s` and
    `first_audio_s` of a text in pieces from the end of its first sentence. All are 0 if another gateway has made it.
    """

    complete: engine_pb2.GenerateComplete
    started: engine_pb2.GenerateStarted
    watermark: codec_pb2.WatermarkResult
    codes: rvq_pb2.CodeFrames
    queue_s: float = 0.0
    first_audio_s: float = 0.0
    total_s: float = 0.0
    making_s: float = 0.0  # of `total_s`, without the time in which a text in pieces waited for its next piece
