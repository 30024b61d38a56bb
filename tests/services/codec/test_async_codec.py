"""The flow between the event loop and the codec thread."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from csm_bundle.errors import CodecError, CodecStoppedError
from csm_codec.stream import Audio, Complete, DecodeStream, Failed, StreamStart
from services.codec.async_codec import MAX_AHEAD_FRAMES, StreamHandle
from services.codec.stage import CodecStage
from tests.support.waits import eventually, settle


async def test_a_reader_that_stops_stops_the_decoder(stage: CodecStage) -> None:
    handle = await stage.async_codec.open()
    total = MAX_AHEAD_FRAMES + 16
    pushing = asyncio.ensure_future(handle.push(np.zeros((total, 4), np.int64)))
    await eventually(lambda: handle.stream.num_frames >= MAX_AHEAD_FRAMES)
    await asyncio.sleep(0.1)
    assert handle.stream.num_frames == MAX_AHEAD_FRAMES and not pushing.done()
    decoded = 0
    while decoded < total:
        decoded += sum(output.num_new_frames for output in await handle.take() if isinstance(output, Audio))
    await pushing
    handle.close()


async def test_a_stream_that_is_continued_may_be_as_far_ahead_as_another() -> None:
    pushed: list[int] = []
    thread: Any = SimpleNamespace(push=lambda stream, codes: pushed.append(len(codes)))
    stream: Any = SimpleNamespace(start=StreamStart(first_frame=1000))
    unused: Any = None
    handle = StreamHandle(unused, thread, stream)
    pushing = asyncio.ensure_future(handle.push(np.zeros((2 * MAX_AHEAD_FRAMES, 4), np.int64)))
    await settle()
    assert sum(pushed) == MAX_AHEAD_FRAMES
    handle.put(Audio(stream, np.zeros(0, np.float32), 1003, 3))
    await handle.take()
    await settle()
    assert sum(pushed) == MAX_AHEAD_FRAMES + 3 and not pushing.done()
    pushing.cancel()


async def test_an_opening_that_is_cancelled_keeps_no_slot(stage: CodecStage) -> None:
    opening = asyncio.ensure_future(stage.async_codec.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    handles = [await stage.async_codec.open() for _ in range(2)]  # all slots
    for handle in handles:
        handle.close()
        handle.close()


async def test_an_opening_cancelled_halfway_admits_the_next_stream(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec: Any = stage.async_codec.threads[0]._codec
    sitting_down, go_on, opened = threading.Event(), threading.Event(), codec.open

    def slow_open(*asked: Any) -> Any:
        sitting_down.set()
        go_on.wait(60)
        return opened(*asked)

    first = await stage.async_codec.open()
    monkeypatch.setattr(codec, "open", slow_open)
    second = asyncio.ensure_future(stage.async_codec.open())
    await asyncio.to_thread(sitting_down.wait, 60)
    third = asyncio.ensure_future(stage.async_codec.open())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    await asyncio.sleep(0.05)
    go_on.set()
    async with asyncio.timeout(60):
        (await third).close()
    first.close()


async def test_a_stream_that_opens_while_the_codec_fails_gets_the_error(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec: Any = stage.async_codec.threads[0]._codec
    opening = asyncio.ensure_future(stage.async_codec.open())
    await asyncio.sleep(0)
    monkeypatch.setattr(type(codec), "has_work", True)  # the next step fails
    monkeypatch.setattr(codec, "step", lambda: 1 / 0)
    time.sleep(0.3)  # blocks the event loop, which then sees both at once
    with pytest.raises(CodecStoppedError):
        async with asyncio.timeout(60):
            await (await opening).take()


async def test_a_stream_whose_batch_fails_before_it_is_known_gets_the_error(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has opened it, and its failure has come before the event loop has heard of the opening."""
    codec: Any = stage.async_codec.threads[0]._codec
    opened = codec.open

    def opened_and_failed(*asked: Any) -> DecodeStream:
        stream: DecodeStream = opened(*asked)
        codec.cancel(stream)
        return stream

    monkeypatch.setattr(codec, "open", opened_and_failed)
    handle = await stage.async_codec.open()
    with pytest.raises(CodecError, match="in this stream's batch"):
        await handle.take()
    handle.close()


async def test_the_end_of_a_stream_is_told_once(stage: CodecStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is closed afterwards does not count as a cancel."""
    ends: list[Complete | Failed | None] = []
    monkeypatch.setattr(stage.async_codec, "_on_end", lambda stream, end: ends.append(end))
    handle = await stage.async_codec.open()
    await handle.push(np.zeros((1, 4), np.int64))
    handle.finish()
    while not any(isinstance(output, Complete) for output in await handle.take()):
        pass
    handle.close()
    assert [type(end) for end in ends] == [Complete]
    (await stage.async_codec.open()).close()
    assert ends[1:] == [None]
