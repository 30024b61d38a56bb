"""How long a text was in the making, beside how long its call took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2

from csm_bundle.sampling import SamplingParams
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.plan import SynthesisPlan
from services.gateway.synthesis.result import SynthesisResult
from services.gateway.synthesis.texts.remembered import RememberedSentences
from services.gateway.synthesis.texts.text_synthesis import TextSynthesis
from tests.support.clock import Clock
from tests.support.waits import settle


class TakesTenSeconds:
    """Makes a sentence, for which it puts the clock forward."""

    phase = "generate"
    sent_samples = delivered_samples = 0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.generated: asyncio.Future[rvq_pb2.CodeFrames] = asyncio.get_running_loop().create_future()

    async def run(self, deadline: Deadline, deliver: object) -> SynthesisResult:
        codes = rvq_pb2.CodeFrames(codebook_count=1)
        self.generated.set_result(codes)
        await settle()  # the writer may go on before this sentence is spoken
        self._clock.put_forward(10)
        mark = codec_pb2.WatermarkResult(coverage=codec_pb2.WATERMARK_COVERAGE_FULL)
        return SynthesisResult(engine_pb2.GenerateComplete(), engine_pb2.GenerateStarted(), mark, codes)


async def test_the_writer_s_pauses_do_not_count_as_synthesis_time(clock: Clock) -> None:
    said = asyncio.Semaphore(0)

    async def sentences() -> AsyncIterator[str]:
        clock.put_forward(100)
        yield "One."
        yield "Two."
        for _ in range(2):
            await said.acquire()
        await settle()
        clock.put_forward(100)
        yield "Three."
        await said.acquire()
        await settle()
        clock.put_forward(100)

    class Clip:
        def synthesis_of(self, *_: object, is_first: bool) -> TakesTenSeconds:
            return TakesTenSeconds(clock)

        async def end_sentence(self, text: str, result: SynthesisResult) -> None:
            said.release()

    nothing: Any = None
    clip: Any = Clip()
    text = TextSynthesis(plan_of_a_text(), sentences(), clip, RememberedSentences(0))
    result = await text.run(nothing, nothing)
    assert 330 <= result.total_s and 30 <= result.making_s < 100


def plan_of_a_text() -> SynthesisPlan:
    return SynthesisPlan(
        request_id="",
        text="",
        speaker=0,
        voice="",
        turns=(),
        sampling=SamplingParams(),
        max_frames=100,
        max_utterance_frames=100,
        encoding=tts_pb2.AUDIO_ENCODING_PCM,
        sample_rate_hz=24_000,
        return_codes=False,
        chunk_frames=0,
        first_batch_frames=1,
        max_batch_frames=0,
        live=True,
    )
