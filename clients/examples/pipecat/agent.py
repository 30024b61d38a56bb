"""A Pipecat agent without an account: no transport, no language model. It answers each line that is typed, into a WAV
file.

    pip install 'csm-client[pipecat]'
    python agent.py 127.0.0.1:50051 answer.wav

A line that is typed while the agent speaks interrupts it. In your pipeline, a transport, a speech recogniser and a
language model stand where `Echo` and `WavSink` are.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from csm_client import WavFile
from csm_client.plugins.pipecat import CsmTTSService
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

SAMPLE_RATE_HZ = 24_000


class Echo(FrameProcessor):
    """What a language model would be: it answers a transcription, word by word."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, TranscriptionFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        for word in f"You said: {frame.text.strip()}. Tell me more about it.".split():
            await self.push_frame(LLMTextFrame(f"{word} "))
        await self.push_frame(LLMFullResponseEndFrame())


class WavSink(FrameProcessor):
    """Takes the agent's audio in place of a transport."""

    def __init__(self, file: WavFile) -> None:
        super().__init__()
        self._file = file

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self._file.write(frame.audio)
        await self.push_frame(frame, direction)


async def type_into(worker: PipelineWorker) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        await worker.queue_frame(InterruptionFrame())
        await worker.queue_frame(TranscriptionFrame(line, user_id="you", timestamp=""))
    await worker.queue_frame(EndFrame())


async def main(target: str, path: Path) -> None:
    with WavFile(path, SAMPLE_RATE_HZ) as file:
        pipeline = Pipeline([Echo(), CsmTTSService(target), WavSink(file)])
        worker = PipelineWorker(pipeline, params=PipelineParams(audio_out_sample_rate=SAMPLE_RATE_HZ))
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), type_into(worker))
        file.finish()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
