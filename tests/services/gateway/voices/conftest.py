"""Databases for voices: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.gateway.voices.store import VoiceStore
from tests.services.gateway.voices.throwaway_postgres import MISSING, running_postgres, server_programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server for the whole test session."""
    programs = server_programs()
    if programs is None:
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="csm-pg-") as folder, running_postgres(programs, Path(folder)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, as a value of --voices-database."""
    if request.param == "sqlite":
        return str(tmp_path / "voices.sqlite")
    url: str = request.getfixturevalue("postgres")
    return emptied(url)


@pytest.fixture
async def store(database: str) -> AsyncIterator[VoiceStore]:
    opened = VoiceStore(database)
    yield opened
    await opened.close()


def emptied(url: str) -> str:
    """Drops all tables. Returns the URL."""
    import asyncio

    import asyncpg

    async def drop() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        finally:
            await connection.close()

    asyncio.run(drop())
    return url
