"""Many long recordings at once: neither the gateway's memory nor other calls' times grow.

The gateway is a process of its own with a limit on its memory, the senders are another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2

from services.common.rpc.calls import Context
from tests.services.gateway.budgets.limited_gateway import MIB, load
from tests.support.fake_stages import FakeCodec

MAX_RSS_BYTES = 512 * MIB
SEARCH_PACE = 60 * MIB  # bytes of samples that the codec searches in a second

# Sends COUNT recordings of SIZE bytes of A-law at 192 kHz at once and prints how many were searched and refused.
SENDER = """
import asyncio, sys, grpc
from csm.v1 import tts_pb2, watermark_pb2, watermark_pb2_grpc
target, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
async def send():
    request = watermark_pb2.DetectWatermarkRequest()
    request.recording.audio_content = bytes(range(256)) * (size // 256)
    request.recording.audio_format.audio_encoding = tts_pb2.AUDIO_ENCODING_ALAW
    request.recording.audio_format.sample_rate_hertz = 192_000
    async with grpc.aio.insecure_channel(target) as channel:
        stub = watermark_pb2_grpc.WatermarkServiceStub(channel)
        calls = [stub.DetectWatermark(request, timeout=300) for _ in range(count)]
        codes = [await call.code() for call in calls]
    print(codes.count(grpc.StatusCode.OK), codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED))
asyncio.run(send())
"""


class _Codec(FakeCodec):
    """A codec that searches as fast as a real one, and stores nothing."""

    async def StreamDetectWatermark(
        self, requests: AsyncIterator[codec_pb2.StreamDetectWatermarkRequest], context: Context
    ) -> None:
        await anext(requests)
        started = codec_pb2.StreamDetectWatermarkStarted()
        await context.write(codec_pb2.StreamDetectWatermarkResponse(started=started))
        async for request in requests:
            await asyncio.sleep(len(request.samples) / SEARCH_PACE)
        await context.write(codec_pb2.StreamDetectWatermarkResponse(complete=self.detection))


async def test_recordings_that_come_at_once_are_not_all_held(tmp_path: Path) -> None:
    """24 recordings of 16 MB, four at a time: 384 MB, and twice as many of samples, as they are A-law.

    The limit is 80 MB above what a search of all of them takes, and 200 MB below what it takes to hold them.
    """
    found = await load(tmp_path, SENDER, 24, 16 * MIB - 1024, codec=_Codec())
    assert found.counts == [24, 0]
    assert found.peak_rss_bytes < 350 * MIB
    assert found.p95_cpu_s < 0.2


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_hundred_recordings_of_16_mb_stay_within_the_memory_budget(tmp_path: Path) -> None:
    found = await load(tmp_path, SENDER, 100, 16 * MIB - 1024, codec=_Codec())
    print(found)
    searched, refused = found.counts
    assert searched + refused == 100 and searched >= 64
    assert found.peak_rss_bytes < MAX_RSS_BYTES
    assert found.p95_cpu_s < 0.2
