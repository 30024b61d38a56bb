"""The schema of the database of voices: made and migrated by gateways that may start together."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.gateway.voices.database import VoicesDatabaseError
from services.gateway.voices.store import VOICES, VoiceStore
from tests.services.gateway.voices.test_store import VOICE


async def test_gateways_that_start_together_make_one_schema(database: str) -> None:
    stores = [VoiceStore(database) for _ in range(3)]
    try:
        await asyncio.gather(*(store.count() for store in stores))
        await stores[0].add(VOICE, b"", 1)
        assert await stores[2].get("ada") == VOICE
    finally:
        for store in stores:
            await store.close()


async def test_gateways_of_one_sqlite_file_migrate_one_after_the_other(tmp_path: Path) -> None:
    """Between the first statement of one and its last, another one that begins at any statement makes nothing."""
    path = tmp_path / "voices.sqlite"
    store = VoiceStore(str(path))
    made: list[str] = []

    def other(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.split()[0] in ("CREATE", "INSERT"):
            with closing(sqlite3.connect(path, timeout=0)) as rival, suppress(sqlite3.OperationalError):
                rival.execute(statement, ("0001",) * statement.count("?")).fetchall()
                rival.commit()
                made.append(statement)

    sa.event.listen(store._engine.sync_engine, "before_cursor_execute", other)
    try:
        assert (await store.count(), made) == (0, [])
    finally:
        await store.close()


async def test_migrations_make_the_table_that_the_store_reads(store: VoiceStore) -> None:
    await store.count()
    async with store._engine.connect() as connection:
        columns = await connection.run_sync(lambda sync: sa.inspect(sync).get_columns("voices"))
    assert [column["name"] for column in columns] == [column.name for column in VOICES.columns]
    for made, read in zip(columns, VOICES.columns, strict=True):
        assert made["type"]._type_affinity is read.type._type_affinity, read.name


async def test_schema_of_a_later_version_is_refused(database: str) -> None:
    store, late = VoiceStore(database), VoiceStore(database)
    try:
        await store.count()
        async with store._engine.begin() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(VoicesDatabaseError, match="9999"):
            await late.count()
    finally:
        await store.close()
        await late.close()
