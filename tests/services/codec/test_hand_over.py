"""What the codec thread hands over to the event loop, in orders that occur on a busy machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from csm.codec.v1 import codec_pb2
from prometheus_client import CollectorRegistry

from csm_bundle.errors import CodecError, CodecStoppedError
from csm_codec.codec import Codec
from csm_codec.lanes import Slot
from csm_codec.stream import Audio, Checkpoint, Complete, DecodeStream, Failed, Output, StreamStart
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.progress import START, MarkPoint
from services.codec import servicer as servicer_module
from services.codec.async_codec import MAX_AHEAD_FRAMES, AsyncCodec, Opening, StreamHandle
from services.codec.metrics import CodecMetrics
from services.codec.servicer import CodecServicer
from tests.support.codec_stage import F32
from tests.support.waits import settle

STREAM = DecodeStream(Slot(0, 0, 0), "key")
NATIVE_HZ = 24_000


class FailingCodec:
    """A codec that fails every stream in the step after it was opened."""

    num_slots, device = 1, torch.device("cpu")

    def __init__(self) -> None:
        self.failed = threading.Event()  # set once the failure is handed over
        self.may_step = threading.Event()
        self.may_step.set()
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
        if not self._opened:
            return []
        assert self.may_step.wait(60)
        stream = self._opened.pop()
        stream.ended = self._has_failed = True
        return [Failed(stream, CodecError("The codec failed in this stream's batch."))]

    def cancel(self, stream: DecodeStream) -> None:
        assert stream.ended


@asynccontextmanager
async def running(codec: FailingCodec, **callbacks: Any) -> AsyncIterator[AsyncCodec]:
    async_codec = AsyncCodec([cast(Codec, codec)], **callbacks)
    try:
        yield async_codec
    finally:
        await async_codec.stop()


def handle_of(async_codec: Any = None, thread: Any = None) -> StreamHandle:
    return StreamHandle(async_codec, thread, STREAM)


def audio(num_samples: int, num_frames: int = 1, checkpoint: Checkpoint | None = None) -> Audio:
    return Audio(STREAM, np.zeros(num_samples, np.float32), num_frames, 1, checkpoint)


def checkpoint(first_frame: int, first_sample: int = 0) -> Checkpoint:
    return Checkpoint(MarkPoint(0, 0.0, 0.0, 0.0, 0, START), StreamStart(first_frame, first_sample=first_sample))


def servicer_of(async_codec: Any = None) -> CodecServicer:
    identity = SimpleNamespace(sample_rate_hertz=NATIVE_HZ, frame_sample_count=1920)
    loaded: Any = SimpleNamespace(mimi=SimpleNamespace(identity=identity), resume_digest="weights")
    nothing: Any = None
    return CodecServicer(
        loaded,
        async_codec,
        nothing,
        nothing,
        max_recording_seconds=1,
        require_full_watermark=False,
        max_batch_frames=8,
    )


def ends(metrics: CodecMetrics) -> dict[str, float]:
    """The number of streams that have ended, by outcome."""
    (family,) = metrics._streams.collect()
    return {each.labels["outcome"]: each.value for each in family.samples if each.name.endswith("_total")}


class Context:
    """A call that records what is written to it."""

    def __init__(self) -> None:
        self.written: list[codec_pb2.StreamDecodeResponse] = []

    async def write(self, response: codec_pb2.StreamDecodeResponse) -> None:
        self.written.append(response)


async def test_a_stream_whose_batch_fails_while_it_opens_gets_the_error() -> None:
    codec, metrics = FailingCodec(), CodecMetrics(CollectorRegistry())
    async with running(codec, on_end=metrics.observe_end) as async_codec:
        opening = asyncio.ensure_future(async_codec.open())
        await asyncio.sleep(0)
        assert codec.failed.wait(60)  # blocks the event loop, which then sees opening and failure at once
        handle = await opening
        with pytest.raises(CodecError, match="failed in this stream's batch"):
            async with asyncio.timeout(20):
                while True:
                    assert not await handle.take(), "a beat"
        handle.close()
    assert ends(metrics) == {"complete": 0, "failed": 1, "cancelled": 0}


async def test_a_stream_that_is_closed_as_its_end_comes_counts_once() -> None:
    codec, metrics = FailingCodec(), CodecMetrics(CollectorRegistry())
    codec.may_step.clear()
    async with running(codec, on_step=metrics.observe_step, on_end=metrics.observe_end) as async_codec:
        handle = await async_codec.open()
        codec.may_step.set()
        assert codec.failed.wait(60)  # blocks the event loop, which has not seen the failure
        handle.close()
        await settle()
    assert ends(metrics) == {"complete": 0, "failed": 0, "cancelled": 1}


async def test_audio_that_came_before_a_failure_is_taken_first() -> None:
    handle = handle_of()
    first, second = audio(10), audio(20)
    for output in (first, second):
        handle.put(output)
    handle.fail(CodecStoppedError("The codec has stopped."))
    assert await handle.take() == [first, second]
    with pytest.raises(CodecStoppedError):
        await handle.take()


async def test_one_output_returns_the_credit_of_all_its_frames() -> None:
    """A stream that catches up gets several pieces of audio in one step."""
    pushed: list[int] = []
    thread = SimpleNamespace(push=lambda stream, codes: pushed.append(len(codes)))
    handle = handle_of(thread=thread)
    pushing = asyncio.create_task(handle.push(np.zeros((MAX_AHEAD_FRAMES + 8, 4), np.int64)))
    await settle()
    assert sum(pushed) == MAX_AHEAD_FRAMES
    handle.put(audio(0, num_frames=8))
    await handle.take()
    await settle()
    assert sum(pushed) == MAX_AHEAD_FRAMES + 8 and pushing.done()


def pushed_handle() -> StreamHandle:
    """Of a codec that decodes nothing by itself."""
    return handle_of(thread=SimpleNamespace(push=lambda stream, codes: None))


async def test_frames_that_were_pushed_are_waited_for_together_and_others_are_not() -> None:
    handle = pushed_handle()
    await handle.push(np.zeros((3, 4), np.int64))
    taking = asyncio.create_task(handle.take(at_least=8))
    for num_frames in (1, 2):
        handle.put(audio(1920, num_frames))
        await settle()
        assert not taking.done()
    handle.put(audio(1920, 3))
    assert len(await taking) == 3
    await handle.push(np.zeros((1, 4), np.int64))
    taking = asyncio.create_task(handle.take(at_least=8))
    await settle()
    handle.put(audio(1920, 4))
    assert len(await taking) == 1


async def test_the_end_of_a_stream_is_not_waited_past() -> None:
    handle = pushed_handle()
    await handle.push(np.zeros((3, 4), np.int64))
    taking = asyncio.create_task(handle.take(at_least=8))
    await settle()
    handle.put(audio(1920, 1))
    handle.put(Complete(STREAM, Coverage.FULL, START))
    assert len(await taking) == 2


@pytest.mark.parametrize(
    ("held", "frame_s", "sizes"),
    [(0, 0.0, [1, 1, 1, 1, 2, 3, 4, 6, 8, 5]), (0, 0.08, 32 * [1]), (0, 0.1, 32 * [1]), (16, 0.08, 16 * [1])],
    ids=["at once", "as fast as they are played", "slower", "after frames without samples"],
)
async def test_messages_grow_with_the_audio_that_the_player_has_left(
    monkeypatch: pytest.MonkeyPatch, held: int, frame_s: float, sizes: list[int]
) -> None:
    """All frames are there from the start; each takes the codec so many seconds. held: first ones, without samples"""
    now_s = 100.0
    monkeypatch.setattr(servicer_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    handle, context = pushed_handle(), Context()
    await handle.push(np.zeros((32, 4), np.int64))
    config = codec_pb2.StreamDecodeConfig(sample_format=F32)
    writing = asyncio.create_task(servicer_of()._write_audio(config, handle, cast(Any, context)))
    for num_frames in range(1, 33):
        now_s += frame_s
        handle.put(audio(1920 * (num_frames > held), num_frames))
        if num_frames > held:
            await settle()
    writing.cancel()
    assert [response.audio.sample_count // 1920 for response in context.written if response.audio.samples] == sizes


async def test_a_working_codec_without_samples_reports_progress() -> None:
    """A resumed stream may have a thousand frames to catch up with, and its caller treats silence as a loss."""
    handle, context = handle_of(), Context()
    config = codec_pb2.StreamDecodeConfig(sample_format=F32)
    writing = asyncio.create_task(servicer_of()._write_audio(config, handle, cast(Any, context)))
    for num_frames, num_samples in enumerate((0, 0, 0, 1920), start=1):
        handle.put(audio(num_samples, num_frames))
        await settle()
    writing.cancel()
    assert [response.WhichOneof("event") for response in context.written] == ["progress"] * 3 + ["audio"]


async def test_a_waiting_stream_gets_progress_only_while_the_codec_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servicer_module, "BEAT_S", 0)
    async_codec, context, has_slot = SimpleNamespace(is_alive=lambda opening: False), Context(), asyncio.Event()

    async def waiting() -> StreamHandle:
        await has_slot.wait()
        return handle_of()

    servicer = servicer_of(async_codec)
    opening = asyncio.create_task(servicer._opened(waiting(), Opening(), cast(Any, context)))
    await settle()
    assert not context.written
    async_codec.is_alive = lambda opening: True
    async with asyncio.timeout(60):
        while not context.written:
            await asyncio.sleep(0)
    has_slot.set()
    assert (await opening).stream is STREAM


async def test_a_stream_that_opens_just_as_its_caller_leaves_is_closed() -> None:
    closed: list[DecodeStream] = []
    handle = handle_of(SimpleNamespace(close=closed.append))

    async def waiting() -> StreamHandle:
        opening.cancel()
        return handle

    opening = asyncio.create_task(servicer_of()._opened(waiting(), Opening(), cast(Any, Context())))
    with pytest.raises(asyncio.CancelledError):
        await opening
    await settle()
    assert closed == [STREAM]


async def test_a_message_has_the_newest_checkpoint_that_is_not_after_its_samples() -> None:
    """At a later one another call could not continue if this message were the last one to arrive."""
    handle, context = handle_of(), Context()
    config = codec_pb2.StreamDecodeConfig(sample_format=F32)
    writing = asyncio.create_task(servicer_of()._write_audio(config, handle, cast(Any, context)))
    for taken in (
        [audio(0, 1, checkpoint(10))],  # no samples yet
        [audio(4, 2)],
        [audio(4, 3, checkpoint(20, 5)), audio(0, 4, checkpoint(30, 12)), audio(4, 5, checkpoint(40, 13))],
        [audio(4, 6)],
        [audio(4, 7)],
    ):
        for output in taken:
            handle.put(output)
        await settle()
    writing.cancel()
    sent = [response.audio for response in context.written if response.HasField("audio")]
    assert [(a.sample_count, a.HasField("checkpoint") and a.checkpoint.first_frame_index) for a in sent] == [
        (4, 10),
        (8, 30),
        (4, 40),
        (4, False),
    ]
