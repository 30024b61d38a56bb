"""Queries whose time must not grow with the number of voices read an index, in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.gateway.voices.store import VOICES, VoiceStore
from services.gateway.voices.voice import Audience
from tests.services.gateway.voices.test_store import VOICE

_NUM_VOICES = 4000  # so many that reading all of them would be slower


@pytest.fixture
async def plans(store: VoiceStore) -> AsyncIterator[list[str]]:
    """How the database carries out each query of a store with many voices."""
    await store.count()
    async with store._engine.begin() as connection:
        shared = asdict(replace(VOICE, audience=Audience.EVERYONE)) | {"codes": b""}
        rows = [shared | {"name": f"voice-{at}", "uid": f"{at:032}"} for at in range(_NUM_VOICES)]
        await connection.execute(sa.insert(VOICES), rows)
        await connection.exec_driver_sql("ANALYZE")
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN (FORMAT JSON) "}[store._engine.dialect.name]
    plans: list[str] = []

    def note(connection: sa.Connection, cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT voices."):
            plans.append(json.dumps(connection.exec_driver_sql(explain + statement, parameters).all(), default=tuple))

    sa.event.listen(store._engine.sync_engine, "before_cursor_execute", note)
    yield plans
    sa.event.remove(store._engine.sync_engine, "before_cursor_execute", note)


async def test_a_page_of_a_list_sorts_no_voices(store: VoiceStore, plans: list[str]) -> None:
    async with aclosing(store.usable_by("anyone", "voice-2")) as voices:
        assert (await anext(voices)).name == "voice-20"
    assert len(plans) == 1 and "index" in plans[0].lower()
    assert "Sort" not in plans[0] and "TEMP B-TREE" not in plans[0]


async def test_the_codes_of_a_voice_are_found_without_a_look_at_the_others(store: VoiceStore, plans: list[str]) -> None:
    assert await store.codes(f"{7:032}") == b""
    assert len(plans) == 1 and "voices_by_uid" in plans[0]
