"""The gateway's stream to the codec: what is left to decode after a loss, and where the next stream goes on."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from csm.codec.v1.codec_pb2 import StreamDecodeCheckpoint

from services.gateway.stages.errors import unreachable
from services.gateway.synthesis.clip import Clip
from services.gateway.synthesis.codec_stream import CHECKPOINT_FRAMES, MAX_TAKEN_FRAMES, CodecStream
from services.gateway.synthesis.decoding import DecodePacing
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES
from tests.support.waits import eventually


async def test_a_codec_that_fails_while_the_engine_is_silent_leaves_no_task_behind(
    deployment: FakeDeployment, tts: Any, stream_request: Any
) -> None:
    await deployment.gateway.wait_ready()
    deployment.engine.script.pause_at = 5
    deployment.codec.script.fail_at = 1
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in tts.StreamSynthesize(stream_request):
            pass
    await eventually(lambda: "_consume_request_iterator" not in str(asyncio.all_tasks()))


async def test_a_call_that_fails_while_its_stream_is_cancelled_again_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = asyncio.Event()

    class Stream(CodecStream):
        def __init__(self) -> None:
            pass

        async def _read(self, *_: object) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await ends.wait()
                raise unreachable("CODEC") from None

    class Listener:
        async def behind(self) -> None:
            await asyncio.Event().wait()

    waiting = asyncio.create_task(Stream()._read_while_taken(None, None, Listener()))  # type: ignore[arg-type]
    for _ in range(2):
        await asyncio.sleep(0.01)
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    ends.set()
    await asyncio.sleep(0.01)
    del waiting
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_the_last_checkpoint_that_is_not_behind_a_sample_is_chosen() -> None:
    """A later checkpoint would leave out samples."""

    class Stream(CodecStream):
        def __init__(self) -> None:
            self._passed = deque(StreamDecodeCheckpoint(state=b"a", sample_offset=offset) for offset in (10, 20, 30))

    stream = Stream()
    chosen = [stream.checkpoint_before(sample).sample_offset for sample in (-1, 9, 10, 19, 20, 29, 30, 99)]
    assert chosen == [0, 0, 10, 10, 20, 20, 30, 30]


@pytest.mark.parametrize("ahead_frames", [50, 1000])
def test_a_caller_at_the_maximum_lag_has_its_checkpoint(ahead_frames: int) -> None:
    """Without one, another gateway would send all audio again."""
    catalog: Any = SimpleNamespace(
        codec=SimpleNamespace(latency_sample_count=9_600, stretch_sample_count=6_000), frame_samples=FRAME_SAMPLES
    )
    nothing: Any = None
    stream = CodecStream("", catalog, nothing, DecodePacing(ahead_frames), nothing, Clip())
    taken, received = 10 * FRAME_SAMPLES, (10 + 5 + ahead_frames + MAX_TAKEN_FRAMES) * FRAME_SAMPLES
    stream._later_checkpoints.extend(
        StreamDecodeCheckpoint(state=b"a", sample_offset=offset)
        for offset in range(0, received, CHECKPOINT_FRAMES * FRAME_SAMPLES)
    )
    stream._advance_checkpoint(received)
    assert stream.checkpoint_before(taken).sample_offset == taken
