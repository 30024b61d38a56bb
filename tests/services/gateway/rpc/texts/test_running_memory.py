"""A running stream keeps the codes that it has sent, with which another stage can go on, and no samples."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from services.common.process.memory import heap_bytes, why_not_measured
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import CodecStream
from services.gateway.synthesis.deadline import Deadline
from services.gateway.synthesis.decoding import DecodePacing, FrameBuffer
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, fake_frames, fake_identity
from tests.support.waits import eventually

SENTENCES, FRAMES = 40, 60
SAMPLES_BYTES = 2 * SENTENCES * FRAMES * FRAME_SAMPLES

pytestmark = pytest.mark.skipif(bool(why_not_measured()), reason=why_not_measured())


async def test_a_running_text_releases_spoken_sentences(
    deployment: FakeDeployment, tts: Any, stream_request: tts_pb2.StreamSynthesizeRequest
) -> None:
    """A stream whose engine waits inside the last sentence."""
    deployment.engine.frame_count = FRAMES
    await run_to_the_last_sentence(deployment, tts, stream_request)  # allocates what all share
    before = heap_bytes()
    await run_to_the_last_sentence(deployment, tts, stream_request)
    assert heap_bytes() - before < SAMPLES_BYTES / 4


async def run_to_the_last_sentence(deployment: FakeDeployment, tts: Any, request: Any) -> None:
    """Runs a call to its last sentence, and leaves it open."""
    request.input.text = " ".join(f"Number {index}." for index in range(SENTENCES))
    deployment.engine.calls.clear()
    deployment.codec.calls.clear()
    deployment.engine.frame_counts = [FRAMES] * (SENTENCES - 1) + [FRAMES + 1]
    deployment.engine.script.pause_at = FRAMES + 1
    received, call = 0, tts.StreamSynthesize(request)
    while received < FRAME_SAMPLES * FRAMES * SENTENCES:
        received += (await call.read()).audio_chunk.sample_count
    await eventually(lambda: len(deployment.engine.calls) == SENTENCES)
    OPEN.append(call)


OPEN: list[Any] = []  # references to calls; without one a call is cancelled


async def test_a_resume_point_keeps_no_samples() -> None:
    """The message that it came in has them."""
    num_messages = 40
    catalog: Any = SimpleNamespace(
        codec=SimpleNamespace(
            latency_sample_count=0, stretch_sample_count=0, active_key_id="key-1", sends_started=True
        ),
        identity=fake_identity(),
        frame_samples=FRAME_SAMPLES,
        sample_rate_hz=24_000,
    )

    class Codec:
        async def decode(self, requests: Any, timeout_s: float) -> AsyncIterator[codec_pb2.StreamDecodeResponse]:
            yield codec_pb2.StreamDecodeResponse(started=codec_pb2.StreamDecodeStarted())
            for index in range(num_messages):
                audio = codec_pb2.AudioSamples(
                    samples=bytes(2 * 5 * FRAME_SAMPLES),
                    sample_offset=5 * FRAME_SAMPLES * index,
                    sample_count=5 * FRAME_SAMPLES,
                    checkpoint=codec_pb2.StreamDecodeCheckpoint(state=b"a", sample_offset=5 * FRAME_SAMPLES * index),
                )
                sent = codec_pb2.StreamDecodeResponse(audio=audio).SerializeToString()
                yield codec_pb2.StreamDecodeResponse.FromString(sent)
            num_frames = 5 * num_messages
            complete = codec_pb2.StreamDecodeComplete(frame_count=num_frames, sample_count=num_frames * FRAME_SAMPLES)
            yield codec_pb2.StreamDecodeResponse(complete=complete)

    async def take(samples: bytes) -> None:
        return None

    failovers: Any = SimpleNamespace(answered=lambda stage: None, has_listener=False)
    buffer, codec = FrameBuffer(), Codec()
    buffer.put(fake_frames(0, 5 * num_messages))
    buffer.close()
    streams, before = [], heap_bytes()
    for _ in range(4):
        streams.append(CodecStream("", catalog, codec, DecodePacing(50), failovers, Clip()))  # type: ignore[arg-type]
        await streams[-1].run(buffer, Deadline(time.monotonic() + 60), take)
    assert heap_bytes() - before < 4 * 2 * 5 * FRAME_SAMPLES * num_messages / 4
    assert all(stream.checkpoint_before(10**9).state for stream in streams)
