"""A list is in the order of Python's strings, whatever the order of the PostgreSQL database."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg

from services.gateway.voices.store import VoiceStore
from services.gateway.voices.voice import Audience
from tests.services.gateway.voices.conftest import emptied
from tests.services.gateway.voices.test_store import VOICE

NAMES = ["B", "a", "b-2", "b1", "c", "_d"]


async def test_voices_are_listed_in_pythons_order_in_a_database_with_a_languages_order(postgres: str) -> None:
    """By German rules B would be between a and c, and "_" and "-" would not count."""
    operator = await asyncpg.connect(await asyncio.to_thread(emptied, postgres))
    await operator.execute("CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")
    store = VoiceStore(postgres.replace("/postgres?", "/german?"))
    try:
        for number, name in enumerate(NAMES):
            voice = replace(VOICE, name=name, uid=f"{number:032}", audience=Audience.EVERYONE)
            await store.add(voice, b"", len(NAMES))
        assert [voice.name async for voice in store.usable_by("anyone")] == sorted(NAMES)
        assert [voice.name async for voice in store.usable_by("anyone", "_d")] == ["a", "b-2", "b1", "c"]
    finally:
        await store.close()
        await operator.execute("DROP DATABASE german")
        await operator.close()
