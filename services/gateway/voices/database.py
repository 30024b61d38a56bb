"""Opens the database of kept voices: a file of SQLite, or PostgreSQL. It knows no table."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from services.common.setting_types import expanded

BUSY_S = 3.0  # how long SQLite waits for another writer
POOL_SIZE = 4
_SQLITE = b"SQLite format 3\0"  # the first bytes of a file that is not empty
# Parameters of the URL: those of asyncpg that are strings, and one of SQLAlchemy.
_PARAMETERS = (
    "database", "gsslib", "host", "krbsrvname", "passfile", "password", "port", "prepared_statement_cache_size",
    "service", "servicefile", "ssl", "target_session_attrs", "user",
)  # fmt: skip
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class VoicesDatabaseError(OSError):
    """The database of the settings cannot be used; the message names the setting, never a password."""


def open_engine(database: str, timeout_s: float) -> AsyncEngine:
    """database: as VoiceStore takes it. timeout_s: longest wait for a connection

    Raises VoicesDatabaseError for a path that cannot be used, and for a URL of another kind.
    """
    if "://" not in database:
        return _open_sqlite(Path(database))
    try:
        url = sa.make_url(database)
        if url.get_backend_name() != "postgresql":
            raise ArgumentError
        _check_parameters(url)
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_timeout=timeout_s,
            pool_pre_ping=True,  # replaces a connection that the server has closed
            isolation_level="READ COMMITTED",  # whatever the operator's default: a count follows the wait for a lock
            hide_parameters=True,
        )
    except (ArgumentError, ValueError):
        raise VoicesDatabaseError("--voices-database must be a path or postgresql://USER:PASSWORD@HOST/NAME.") from None


def _check_parameters(url: sa.URL) -> None:
    """Raises VoicesDatabaseError. The driver would look at them at its first connection only."""
    for name, value in url.query.items():
        if name == "sslmode":
            raise VoicesDatabaseError("--voices-database has the parameter sslmode; it must be called ssl here.")
        if name not in _PARAMETERS:
            allowed = ", ".join(_PARAMETERS)
            raise VoicesDatabaseError(f"--voices-database has the parameter {name!r}; allowed are {allowed}.")
        if name == "ssl" and value not in _SSL_MODES:
            raise VoicesDatabaseError(f"--voices-database has a wrong ssl; it must be one of {', '.join(_SSL_MODES)}.")


async def empty_log(engine: AsyncEngine) -> None:
    """Empties SQLite's write-ahead log, where deleted rows still are; with PostgreSQL it does nothing.

    It waits BUSY_S for others that use the file. If they still do, the log stays until the next time.
    """
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _open_sqlite(path: Path) -> AsyncEngine:
    try:
        path = expanded(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            begin = file.read(len(_SQLITE))
    except OSError as error:
        raise VoicesDatabaseError(f"--voices-database {path} cannot be used: {error}") from None
    if begin not in (b"", _SQLITE):
        raise VoicesDatabaseError(f"--voices-database {path} is no database of SQLite.")
    engine = create_async_engine(
        # mode rw: a missing file is an error, not replaced by an empty one
        sa.URL.create("sqlite+aiosqlite", database=path.absolute().as_uri(), query={"mode": "rw", "uri": "true"}),
        connect_args={"timeout": BUSY_S},
        hide_parameters=True,
    )

    named = _File(path)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = connection.run_async(lambda _: named.identity())
        connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten

    @sa.event.listens_for(engine.sync_engine, "checkout")
    def _follow(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
        """A connection goes on with a file that was removed or replaced, and what it wrote there would be lost."""
        if record.info["file"] != connection.run_async(lambda _: named.identity()):
            raise DisconnectionError

    return engine


class _File:
    """Which file a path names, now. A thread of its own asks, because a file system in the network may not answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "voices")
        self._asking: asyncio.Future[tuple[int, int] | None] | None = None

    async def identity(self) -> tuple[int, int] | None:
        """None: there is no file. All that wait for an answer wait for the same one."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().run_in_executor(self._thread, _identity, self._path)
        return await asyncio.shield(self._asking)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino)
