"""A SQLite file in a file system that does not answer. SQLAlchemy waits for a connection's thread without end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from services.common.rpc.status import StatusError
from services.gateway.voices import database
from services.gateway.voices.store import MOST_STEPS, TIMEOUT_S, VoiceStore
from tests.support.clock import Clock
from tests.support.waits import eventually, settle


async def hang(store: VoiceStore, until: threading.Event) -> None:
    """Makes the thread of the store's one connection wait."""
    async with store._engine.connect() as connection:
        opened = (await connection.get_raw_connection()).driver_connection
    hangs = threading.Event()

    def wait() -> None:
        hangs.set()
        until.wait()

    opened._tx.put_nowait((None, wait))  # type: ignore[union-attr]  # aiosqlite's queue
    await eventually(hangs.is_set)


async def test_neither_a_call_nor_the_stop_waits_for_a_file_system_that_does_not_answer(
    clock: Clock, tmp_path: Path
) -> None:
    store, until = VoiceStore(str(tmp_path / "voices.sqlite")), threading.Event()
    assert await store.count() == 0
    await hang(store, until)
    try:
        reading = asyncio.create_task(store.get("ada"))
        await settle()
        clock.put_forward(MOST_STEPS * TIMEOUT_S)
        await settle()
        assert reading.done()
        with pytest.raises(StatusError) as failed:
            reading.result()
        assert failed.value.reason == "VOICES_UNREACHABLE"
        closing = asyncio.create_task(store.close())
        await settle()
        clock.put_forward(MOST_STEPS * TIMEOUT_S)  # for the method that still runs
        await settle()
        clock.put_forward(TIMEOUT_S)  # for the connections
        await eventually(closing.done)
        closing.result()
    finally:
        until.set()
    await asyncio.wait(store._running)


async def test_other_calls_go_on_while_it_is_asked_whether_the_file_was_replaced(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked in the event loop, before each use of a connection."""
    store, identity = VoiceStore(str(tmp_path / "voices.sqlite")), database._identity
    assert await store.count() == 0
    asked, answers, late = list[Path](), threading.Event(), threading.Event()

    def hang(path: Path) -> tuple[int, int] | None:
        asked.append(path)
        if not answers.wait(30):
            late.set()
        return identity(path)

    monkeypatch.setattr(database, "_identity", hang)
    for _ in range(2):
        reading = asyncio.create_task(store.get("ada"))
        await eventually(lambda: asked)
        await settle()
        assert not late.is_set(), "the event loop waited"
        clock.put_forward(TIMEOUT_S)
        with pytest.raises(StatusError) as failed:
            await reading
        assert failed.value.reason == "VOICES_UNREACHABLE"
    assert len(asked) == 1, "no thread and no queue grows with the calls"
    answers.set()
    assert await store.get("ada") is None and await store.count() == 0
    await store.close()
