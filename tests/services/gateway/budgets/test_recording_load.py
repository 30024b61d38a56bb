"""Many syntheses with long recordings at once: neither the gateway's memory nor other calls' times grow.

The streams go on while further requests come, so a stream that kept its recordings would show.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2

from services.common.rpc.calls import Context
from tests.services.gateway.budgets.limited_gateway import MIB, load
from tests.support.fake_stages import FakeCodec, FakeEngine

MAX_RSS_BYTES = 512 * MIB
ENCODE_PACE = 200 * MIB  # bytes of samples that the codec encodes in a second
LIFE_S = 5.0  # duration of a stream with a context

# Streams COUNT texts after a recording of SIZE bytes of A-law at 192 kHz, all at once. With ANNOUNCE, calls say their
# size as clients do. One that is refused for want of memory is sent again when the server says, for SECONDS. Prints how
# many were spoken, how many never, and the refusals.
SENDER = """
import asyncio, random, sys, time, grpc
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client.requests import size_metadata
target, count, size, announce, seconds = sys.argv[1], *map(int, sys.argv[2:])
refusals, until = 0, time.monotonic() + seconds
async def speak(tts, request):
    global refusals
    while True:
        try:
            async for _ in tts.StreamSynthesize(
                request, timeout=max(1, until - time.monotonic()), metadata=size_metadata(request) if announce else None
            ):
                pass
            return True
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return False
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
            assert "others wait" in error.details(), error
            (delay_ms,) = [value for key, value in error.trailing_metadata() if key == "grpc-retry-pushback-ms"]
        refusals += 1
        if time.monotonic() > until:
            return False
        await asyncio.sleep(int(delay_ms) / 1000 * random.uniform(0.8, 1.2))
async def main():
    request = tts_pb2.StreamSynthesizeRequest(input=tts_pb2.SynthesisInput(text="Hello."))
    request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    recording = request.context.turns.add(text="Before.").audio.recording
    recording.audio_content = bytes(range(256)) * (size // 256)
    recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_ALAW
    recording.audio_format.sample_rate_hertz = 192_000
    async with grpc.aio.insecure_channel(target) as channel:
        tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        spoken = await asyncio.gather(*(speak(tts, request) for _ in range(count)))
    print(spoken.count(True), spoken.count(False), refusals)
asyncio.run(main())
"""


class _Codec(FakeCodec):
    """A codec that encodes one recording at a time, as a real one, and stores nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = asyncio.Lock()

    async def encode(self, recording: codec_pb2.EncodeRequest) -> codec_pb2.EncodeResponse:
        async with self._encoder:
            await asyncio.sleep(len(recording.samples) / ENCODE_PACE)
        response = await super().encode(recording)
        self.encoded.clear()
        return response


class _Engine(FakeEngine):
    """An engine that takes LIFE_S for a text with a context."""

    def __init__(self) -> None:
        super().__init__()
        self.num_running = self.most_running = 0

    async def Generate(self, request: engine_pb2.GenerateRequest, context: Context) -> None:
        if len(request.segments) > 1:
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
            await asyncio.sleep(LIFE_S)
            self.num_running -= 1
        await super().Generate(request, context)
        self.calls.clear()


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("announced", [1, 0], ids=["announced", "unannounced"])
async def test_a_hundred_syntheses_with_16_mb_each_stay_within_the_memory_budget(
    tmp_path: Path, announced: int
) -> None:
    engine = _Engine()
    found = await load(tmp_path, SENDER, 100, 16 * MIB - 1024, announced, 400, codec=_Codec(), engine=engine)
    print(found, engine.most_running)
    spoken, never, _ = found.counts
    assert spoken + never == 100
    assert found.peak_rss_bytes < MAX_RSS_BYTES
    if announced:  # the others are received before they can be refused, which takes bandwidth and CPU
        assert spoken >= 64
        assert found.p95_cpu_s < 0.2
