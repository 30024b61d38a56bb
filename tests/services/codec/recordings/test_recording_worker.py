"""The worker for whole recordings: what its stop does to running work and waiting calls; what comes between pieces."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Generator
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


def in_pieces(pieces: list[Work], done: list[str]) -> Generator[None, None, str]:
    for number, piece in enumerate(pieces):
        if number:
            yield
        piece()
        done.append(f"piece {number}")
    return "result"


@pytest.fixture
async def pieces() -> AsyncIterator[list[Work]]:
    pieces = [Work() for _ in range(3)]
    yield pieces
    for piece in pieces:
        piece.may_end.set()


async def test_work_that_comes_while_a_piece_runs_is_done_before_the_next_piece(pieces: list[Work]) -> None:
    worker, done = RecordingWorker(max_waiting=1), list[str]()
    in_parts = asyncio.create_task(worker.run_pieces(in_pieces(pieces, done)))
    for number, piece in enumerate(pieces):
        await asyncio.to_thread(piece.begun.wait, 20)
        other = asyncio.create_task(worker.run(lambda number=number: done.append(f"other {number}")))  # type: ignore[misc]
        await asyncio.sleep(0)  # it is in the queue now
        piece.may_end.set()
        await other
    assert await in_parts == "result"
    assert done[:5] == ["piece 0", "other 0", "piece 1", "other 1", "piece 2"]
    await worker.stop()


async def test_a_cancelled_call_ends_before_its_next_piece(pieces: list[Work]) -> None:
    worker, done = RecordingWorker(max_waiting=1), list[str]()
    in_parts = asyncio.create_task(worker.run_pieces(in_pieces(pieces, done)))
    await asyncio.to_thread(pieces[0].begun.wait, 20)
    in_parts.cancel()
    await asyncio.wait({in_parts})
    pieces[0].may_end.set()
    assert in_parts.cancelled() and await worker.run(lambda: "next") == "next"
    assert done == ["piece 0"] and not pieces[1].begun.is_set()
    await worker.stop()


async def test_a_stop_ends_a_call_before_its_next_piece(pieces: list[Work]) -> None:
    worker: Any = RecordingWorker(max_waiting=1)
    in_parts = asyncio.create_task(worker.run_pieces(in_pieces(pieces, [])))
    await asyncio.to_thread(pieces[0].begun.wait, 20)
    stopping = asyncio.create_task(worker.stop())
    async with asyncio.timeout(20):
        while not worker._worker._stopped:
            await asyncio.sleep(0)
        pieces[0].may_end.set()
        with pytest.raises(CodecStoppedError):
            await in_parts
        await stopping
    assert not pieces[1].begun.is_set()


async def test_an_error_of_a_later_piece_is_the_callers(pieces: list[Work]) -> None:
    worker = RecordingWorker(max_waiting=1)

    def failing() -> Generator[None, None, str]:
        yield
        raise OSError("of a piece")

    with pytest.raises(OSError, match="of a piece"):
        await worker.run_pieces(failing())
    assert await worker.run(lambda: "next") == "next"
    await worker.stop()


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
