"""The worker for whole recordings: what its stop does to running work and to waiting calls."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from csm_bundle.errors import CodecStoppedError
from csm_bundle.runtime import worker_thread
from services.codec.recordings.worker import RecordingWorker


class Work:
    """A piece of work that ends when the test lets it."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(20)
        return "done"


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    work.may_end.set()


async def test_a_waiting_call_ends_at_the_stop(work: Work) -> None:
    """A CancelledError would end the handler without a status, and the caller would wait on."""
    worker: Any = RecordingWorker(max_waiting=1)
    running, waiting = (asyncio.create_task(worker.run(item)) for item in (work, str))
    await asyncio.to_thread(work.begun.wait, 20)
    stopping = asyncio.create_task(worker.stop())
    async with asyncio.timeout(20):
        while not worker._worker._stopped:
            await asyncio.sleep(0)
        work.may_end.set()
        assert await running == "done"
        with pytest.raises(CodecStoppedError):
            await waiting
        await stopping


async def test_a_recording_of_a_cancelled_call_is_released(work: Work) -> None:
    """Otherwise callers that send, cancel and call again could fill the memory while a long recording is processed."""
    worker = RecordingWorker(max_waiting=1)
    running = asyncio.create_task(worker.run(work))
    await asyncio.to_thread(work.begun.wait, 20)
    samples = Work()  # for another recording
    held = weakref.ref(samples)
    waiting = asyncio.create_task(worker.run(samples))
    del samples
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    del waiting
    assert held() is None
    work.may_end.set()
    assert await running == "done"
    await worker.stop()


async def test_a_stop_does_not_wait_for_work_that_hangs(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_thread, "STOP_S", 0.01)
    worker = RecordingWorker(max_waiting=1)
    running = asyncio.create_task(worker.run(work))
    await asyncio.to_thread(work.begun.wait, 20)
    async with asyncio.timeout(60):
        await worker.stop()
    assert not running.done() and not work.may_end.is_set()
    running.cancel()


async def test_a_failing_thread_is_reported_once() -> None:
    """Otherwise it would take no more recordings, while the stage stays ready."""
    told = asyncio.get_running_loop().create_future()
    worker: Any = RecordingWorker(max_waiting=1, on_failure=told.set_result)

    def panic() -> None:
        raise OSError("of the thread, not of a call")

    worker._worker.submit(panic)
    async with asyncio.timeout(20):
        assert str(await told) == "of the thread, not of a call"
    with pytest.raises(CodecStoppedError):
        await worker.run(str)
    await worker.stop()
