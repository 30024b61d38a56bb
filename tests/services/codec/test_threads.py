"""A codec stage with several threads, each with a codec of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from csm_bundle.errors import CodecStoppedError
from csm_codec.codec_thread import CodecThread
from csm_codec.mimi import decoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from csm_codec.stream import Audio, Complete
from services.codec import load
from services.codec.async_codec import AsyncCodec, Opening, StreamHandle
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from tests.support.codec_stage import running_codec
from tests.support.waits import eventually, settle

FRAMES = 6


@pytest.fixture
def settings(settings: CodecSettings) -> CodecSettings:
    """Three threads with a lane of two slots each."""
    return settings.model_copy(update={"threads": 3, "slots": 6, "stall_seconds": 0.5})


async def open_all(async_codec: AsyncCodec, count: int) -> list[StreamHandle]:
    return [await async_codec.open() for _ in range(count)]


async def audio_of(handle: StreamHandle, seed: int) -> Pcm:
    await handle.push(np.random.default_rng(seed).integers(0, 64, (FRAMES, 4)))
    handle.finish()
    parts: list[Pcm] = []
    while True:
        for output in await handle.take():
            if isinstance(output, Complete):
                handle.close()
                return np.concatenate(parts)
            assert isinstance(output, Audio)
            parts.append(output.pcm)


async def torch_threads(thread: CodecThread) -> int:
    """That torch computes with in a codec's thread."""
    return await asyncio.wrap_future(thread.worker.call(torch.get_num_threads, RuntimeError("stopped")))


@pytest.fixture
async def expected(settings: CodecSettings) -> AsyncIterator[list[Pcm]]:
    """The audio of six streams, one after the other, from a stage of one thread with one lane."""
    stage = await start_codec(settings.model_copy(update={"threads": 1}))
    assert len(stage.async_codec.threads) == 1
    yield [await audio_of(await stage.async_codec.open(), seed) for seed in range(6)]
    await stage.stop()


async def test_streams_in_several_threads_have_the_audio_of_one_thread(expected: list[Pcm], stage: CodecStage) -> None:
    assert [thread.num_slots for thread in stage.async_codec.threads] == [2, 2, 2]
    assert [await torch_threads(thread) for thread in stage.async_codec.threads] == [1, 1, 1]
    handles = await open_all(stage.async_codec, 6)
    heard = await asyncio.gather(*(audio_of(handle, seed) for seed, handle in enumerate(handles)))
    for pcm, other in zip(heard, expected, strict=True):
        assert np.array_equal(pcm, other)
    await eventually(lambda: stage.async_codec.num_streams == 0)


async def test_an_unusual_mimi_is_decoded_in_one_thread_by_all_of_torch_s(
    settings: CodecSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its modules share no weights between threads. They are changed, so this stage has a Mimi of its own."""
    monkeypatch.setattr(load, "load_mimi", load_mimi)
    monkeypatch.setattr(decoder, "is_usual", lambda model: False)
    async with running_codec(settings) as (stage, _):
        (thread,) = stage.async_codec.threads
        assert (thread.num_slots, await torch_threads(thread)) == (6, 3)
        assert len(await audio_of(await stage.async_codec.open(), 0)) == FRAMES * 1920


async def test_a_stream_goes_to_the_thread_with_the_fewest(stage: CodecStage) -> None:
    first, second, third = stage.async_codec.threads
    handles = await open_all(stage.async_codec, 6)
    assert [handle.thread for handle in handles] == [first, second, third] * 2
    for index in (1, 4, 5):
        handles[index].close()
    again = await open_all(stage.async_codec, 3)
    assert sorted(handle.thread.worker.name for handle in again) == ["codec 1", "codec 1", "codec 2"]
    assert stage.async_codec.admission.num_calls == 6


async def test_an_opening_that_fails_leaves_its_thread(stage: CodecStage, monkeypatch: pytest.MonkeyPatch) -> None:
    codec: Any = stage.async_codec.threads[0]._codec
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(codec, "open", lambda options: 1 / 0)
        await stage.async_codec.open()
    await eventually(lambda: stage.async_codec.admission.num_calls == 0)
    handles = await open_all(stage.async_codec, 6)
    assert handles[0].thread is stage.async_codec.threads[0]


async def test_however_many_threads_hang_their_stop_is_one_wait(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's own pool has four threads more than there are CPUs. The event loop goes on meanwhile."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    all_wait, stopped = threading.Barrier(4), []
    for thread in stage.async_codec.threads:

        def stop(stop: Callable[[], None] = thread.stop) -> None:
            all_wait.wait(30)
            stop()
            stopped.append(True)

        monkeypatch.setattr(thread, "stop", stop)
    stopping = asyncio.create_task(stage.async_codec.stop())
    await settle()
    await asyncio.to_thread(all_wait.wait, 30)
    await stopping
    assert len(stopped) == 3
    monkeypatch.undo()


async def test_a_thread_that_fails_fails_the_stage(stage: CodecStage, monkeypatch: pytest.MonkeyPatch) -> None:
    handles = await open_all(stage.async_codec, 3)
    codec: Any = stage.async_codec.threads[1]._codec
    monkeypatch.setattr(codec, "step", lambda: 1 / 0)
    await handles[1].push(np.zeros((1, 4), np.int64))
    assert isinstance(await stage.server.wait_failed(), ZeroDivisionError)
    for handle in handles:
        with pytest.raises(CodecStoppedError):
            await handle.take()


async def test_while_one_thread_hangs_the_others_decode_and_the_stage_is_not_alive(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New streams go to the others, although the first thread would be next by the number of its streams."""
    handles = await open_all(stage.async_codec, 3)
    codec: Any = stage.async_codec.threads[0]._codec
    may_step, step = threading.Event(), codec.step

    def hang() -> Any:
        assert may_step.wait(60)
        return step()

    monkeypatch.setattr(codec, "step", hang)
    hung = asyncio.ensure_future(audio_of(handles[0], 0))
    assert len(await audio_of(handles[2], 2)) == FRAMES * 1920
    await eventually(lambda: "codec 0" in stage.server._stalled)
    handles[1].close()
    others = await open_all(stage.async_codec, 4)
    assert {handle.thread.worker.name for handle in others} == {"codec 1", "codec 2"}
    assert not hung.done()
    last = Opening()  # for it no slot is left but the other one of the thread that hangs
    opening = asyncio.ensure_future(stage.async_codec.open(opening=last))
    await settle()
    assert last.thread is stage.async_codec.threads[0]
    may_step.set()
    assert (await opening).thread is last.thread
    assert len(await hung) == FRAMES * 1920
    await eventually(lambda: not stage.server._stalled)


async def test_readers_hear_only_of_beats_of_their_own_thread(stage: CodecStage) -> None:
    """After a wait of two beats they tell the caller that the codec is alive."""
    codec, (first, second, _) = stage.async_codec, stage.async_codec.threads
    (handle, *_) = await open_all(codec, 3)
    may_go_on = threading.Event()

    def hang() -> None:
        assert may_go_on.wait(60)

    first.worker.submit(hang)
    await eventually(lambda: not codec._watchdogs[first].worker_is_alive)
    assert handle.thread is first
    waiting = asyncio.ensure_future(handle.take())
    await settle()
    for _ in range(3):
        codec._beat_streams(second)
    await settle()
    assert not waiting.done()
    for _ in range(2):
        codec._beat_streams(first)
    assert await waiting == []
    may_go_on.set()


async def test_a_stream_waits_as_long_as_its_thread_goes_on_or_one_that_may_free_a_slot(
    stage: CodecStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways take a codec that reports no progress for three seconds for lost."""
    codec, (first, _, third) = stage.async_codec, stage.async_codec.threads
    handles = await open_all(codec, 6)
    may_go_on = threading.Event()

    def hang() -> None:
        assert may_go_on.wait(60)

    third.worker.submit(hang)
    in_third, waiting = Opening(), Opening()
    handles[2].close()
    opened = asyncio.ensure_future(codec.open(opening=in_third))
    queued = asyncio.ensure_future(codec.open(opening=waiting))
    await eventually(lambda: in_third.thread is third and not codec.is_alive(in_third))
    assert waiting.thread is None
    await eventually(lambda: codec.is_alive(waiting))
    handles[0].close()
    assert (await queued).thread is first and waiting.thread is first
    assert not opened.done()
    may_go_on.set()
    await opened
    await eventually(lambda: codec.is_alive(in_third))
