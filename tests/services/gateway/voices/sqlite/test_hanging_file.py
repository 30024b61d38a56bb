"""A SQLite file in a file system that does not answer. SQLAlchemy waits for a connection's thread without end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from services.common.rpc.status import StatusError
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
