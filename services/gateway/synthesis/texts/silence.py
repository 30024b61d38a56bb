"""What a text without words is answered with, where its caller asks for it: a silence that no stage has made."""

from __future__ import annotations

import time

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2

from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.synthesis import Deliver

_ENDED = engine_pb2.GenerateComplete(finish_reason=engine_pb2.FINISH_REASON_END_OF_SPEECH)


async def deliver_silence(samples: int, deliver: Deliver, arrived_at_s: float) -> SynthesisResult:
    """Hands over so many samples at the codec's rate; it came to its end. Nothing could be marked in it, and it has no
    codes. Raises any error of `deliver`.
    """
    await deliver(bytes(2 * samples))  # of 16 bits
    return SynthesisResult(
        complete=_ENDED,
        started=engine_pb2.GenerateStarted(),
        watermark=codec_pb2.WatermarkResult(),
        codes=rvq_pb2.CodeFrames(),
        queue_s=0.0,
        first_audio_s=0.0,
        total_s=time.monotonic() - arrived_at_s,
        making_s=0.0,
    )
