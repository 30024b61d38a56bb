"""The answer to a text without words, if its caller asks for silence instead of an error. No stage is called."""

from __future__ import annotations

import time

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver

_ENDED = engine_pb2.GenerateComplete(finish_reason=engine_pb2.FINISH_REASON_END_OF_SPEECH)


async def deliver_silence(samples: int, deliver: Deliver, arrived_at_s: float) -> SynthesisResult:
    """Delivers `samples` samples of silence at the codec's rate, without codes and watermark. Raises what `deliver`
    raises.
    """
    await deliver(bytes(2 * samples))  # of 16 bits
    return SynthesisResult(
        complete=_ENDED,
        started=engine_pb2.GenerateStarted(),
        watermark=codec_pb2.WatermarkResult(),
        codes=rvq_pb2.CodeFrames(),
        total_s=time.monotonic() - arrived_at_s,
    )
