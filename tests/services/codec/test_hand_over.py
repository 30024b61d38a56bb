"""What passes between the codec thread and the event loop, in the orders that a busy machine brings about."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from csm.codec.v1 import codec_pb2

from csm_bundle.errors import CodecError, CodecStoppedError
from csm_codec.codec import Codec
from csm_codec.lanes import Slot
from csm_codec.stream import Audio, DecodeStream, Failed, Output
from services.codec.async_codec import AsyncCodec, StreamHandle
from services.codec.servicer import CodecServicer
from tests.support.codec_stage import F32

STREAM = DecodeStream(Slot(0, 0, 0), "key")
NATIVE_HZ = 24_000


class FailingCodec:
    """Fails every stream in the step that follows its opening."""

    num_slots = 1

    def __init__(self) -> None:
        self.failed = threading.Event()  # and delivered
        self._opened: list[DecodeStream] = []
        self._has_failed = False

    @property
    def has_work(self) -> bool:
        if self._has_failed:
            self.failed.set()
        return bool(self._opened)

    def open(self, *arguments: object) -> DecodeStream:
        self._opened.append(DecodeStream(Slot(0, 0, 0), "key"))
        return self._opened[0]

    def step(self) -> list[Output]:
        stream = self._opened.pop()
        stream.ended = self._has_failed = True
        return [Failed(stream, CodecError("The codec failed in this stream's batch."))]

    def cancel(self, stream: DecodeStream) -> None:
        assert stream.ended


@asynccontextmanager
async def running(codec: FailingCodec, **callbacks: Any) -> AsyncIterator[AsyncCodec]:
    async_codec = AsyncCodec(cast(Codec, codec), **callbacks)
    try:
        yield async_codec
    finally:
        await async_codec.stop()


def handle_of(async_codec: Any = None) -> StreamHandle:
    return StreamHandle(async_codec, STREAM)


def audio(num_samples: int, num_frames: int = 1) -> Audio:
    return Audio(STREAM, np.zeros(num_samples, np.float32), num_frames, 1)


async def test_a_stream_whose_batch_fails_while_it_opens_is_told() -> None:
    codec, cancelled = FailingCodec(), list[DecodeStream]()
    async with running(codec, on_cancel=cancelled.append) as async_codec:
        opening = asyncio.ensure_future(async_codec.open(""))
        await asyncio.sleep(0)
        assert codec.failed.wait(60)  # the loop stands still meanwhile: it sees opening and failure at once
        handle = await opening
        with pytest.raises(CodecError, match="failed in this stream's batch"):
            async with asyncio.timeout(20):
                while True:
                    assert not await handle.take(), "a beat"
        handle.close()
    assert cancelled == [], "it has failed, and counts as such"


async def test_audio_that_came_before_a_failure_is_taken_first() -> None:
    handle = handle_of()
    first, second = audio(10), audio(20)
    for output in (first, second):
        handle.put(output)
    handle.fail(CodecStoppedError("The codec has stopped."))
    assert await handle.take() == [first, second]
    with pytest.raises(CodecStoppedError):
        await handle.take()


async def test_a_codec_at_work_that_has_no_samples_yet_tells_of_its_progress() -> None:
    """A stream that is continued has up to a thousand frames to catch up with; its caller takes silence for a loss."""
    loaded: Any = SimpleNamespace(mimi=SimpleNamespace(identity=SimpleNamespace(sample_rate_hertz=NATIVE_HZ)))
    nothing: Any = None
    servicer = CodecServicer(loaded, nothing, nothing, nothing, max_recording_seconds=1, require_full_watermark=False)
    events: asyncio.Queue[str | None] = asyncio.Queue()

    class Context:
        async def write(self, response: codec_pb2.StreamDecodeResponse) -> None:
            events.put_nowait(response.WhichOneof("event"))

    handle, context = handle_of(), cast(Any, Context())
    writing = asyncio.create_task(
        servicer._write_audio(codec_pb2.StreamDecodeConfig(sample_format=F32), handle, context)
    )
    written = []
    for num_frames, num_samples in enumerate((0, 0, 0, 1920), start=1):
        handle.put(audio(num_samples, num_frames))
        for _ in range(5):
            await asyncio.sleep(0)
        while not events.empty():
            written.append(events.get_nowait())
    writing.cancel()
    assert written == ["progress", "progress", "progress", "audio"]
