"""The database of callers' voices: SQLite in a file, or PostgreSQL. It knows no request and no codec.

Every method has a timeout. A database that cannot be reached is UNAVAILABLE, reason VOICES_UNREACHABLE. A method runs
to its end even if its caller is cancelled, or no longer waits because SQLite's thread hangs in the file system.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, fields
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import grpc
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from csm_bundle.voice_folder import VOICE_NAME
from services.common.outcomes import retrieve_exception
from services.common.rpc.status import StatusError
from services.gateway.voices.database import BUSY_S, VoicesDatabaseError, empty_log, open_engine
from services.gateway.voices.migrate import migrate
from services.gateway.voices.voice import Audience, KeptVoice, already_exists, too_many

log = logging.getLogger("csm.gateway")

T = TypeVar("T")

TIMEOUT_S = 5.0  # of each step of a method
MOST_STEPS = 3  # of one method: its turn, the schema, its statements
ATTEMPTS = 8  # of a transaction that lost against another one
ROWS_AT_ONCE = 101  # of a list: a page of ListVoices and one more

VOICES = sa.Table(
    "voices",
    sa.MetaData(),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("uid", sa.String(32)),
    sa.Column("owner", sa.String(64)),
    sa.Column("audience", sa.String(16)),
    sa.Column("callers", sa.JSON),
    sa.Column("speaker", sa.Integer),
    sa.Column("language_codes", sa.JSON),
    sa.Column("description", sa.Text),
    sa.Column("seed", sa.BigInteger),
    sa.Column("consent_id", sa.Text),
    sa.Column("consent_text", sa.Text),
    sa.Column("prompt_text", sa.Text),
    sa.Column("prompt_frames", sa.Integer),
    sa.Column("prompt_level_db", sa.Float),
    sa.Column("codec", sa.JSON),
    sa.Column("model_version", sa.Text),
    sa.Column("created_at", sa.BigInteger),
    sa.Column("codes", sa.LargeBinary),  # the bytes of csm.rvq.v1.CodeFrames.codes
)
# Alembic has global state, so the stores of one event loop migrate one after the other.
_MIGRATING: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_LOCK_OWNER = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))")  # until the transaction ends
_FIELDS = [VOICES.c[field.name] for field in fields(KeptVoice)]  # all but the codes


class VoiceStore:
    """The voices of one database, which gateways share."""

    def __init__(self, database: str) -> None:
        """database: path of a SQLite file, created if missing, or postgresql://USER:PASSWORD@HOST/NAME.

        Raises VoicesDatabaseError for a path that cannot be used, and for a URL of another kind.
        """
        self._engine = open_engine(database, TIMEOUT_S)
        self._is_ready = False
        self._preparing = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._adding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by owner

    async def close(self) -> None:
        """Waits for running methods, and then for the connections to close, each with a timeout."""
        if self._running:
            await asyncio.wait(self._running, timeout=MOST_STEPS * TIMEOUT_S)
        with suppress(StatusError):
            async with _bounded():
                await self._engine.dispose()

    async def get(self, name: str) -> KeptVoice | None:
        if not _may_be_kept(name):
            return None
        rows = await self._read(sa.select(*_FIELDS).where(VOICES.c.name == name))
        return _voice(rows[0]) if rows else None

    async def codes(self, uid: str) -> bytes | None:
        """The codes of a voice; None when it was deleted meanwhile."""
        rows = await self._read(sa.select(VOICES.c.codes).where(VOICES.c.uid == uid))
        return rows[0].codes if rows else None

    async def usable_by(self, caller: str, after: str = "") -> AsyncGenerator[KeptVoice, None]:
        """By name, in the order of Python's strings; only those after the name `after`.

        Reads a few rows at a time, because thousands of them would stop every stream of the gateway for a moment.
        """
        # `may_be_used_by` decides; this reads fewer rows.
        named = sa.cast(VOICES.c.callers, sa.Text).contains(json.dumps(caller), autoescape=True)
        may = sa.or_(VOICES.c.owner == caller, VOICES.c.audience == Audience.EVERYONE.value, named)
        query = sa.select(*_FIELDS).where(may).order_by(VOICES.c.name).limit(ROWS_AT_ONCE)
        while True:
            rows = await self._read(query.where(VOICES.c.name > after))
            for voice in map(_voice, rows):
                if voice.may_be_used_by(caller):
                    yield voice
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1].name

    async def count(self, owner: str | None = None) -> int:
        """Voices of that owner; all for None."""
        query = sa.select(sa.func.count()).select_from(VOICES)
        (row,) = await self._read(query if owner is None else query.where(VOICES.c.owner == owner))
        return int(row[0])

    async def add(self, voice: KeptVoice, codes: bytes, max_per_owner: int) -> None:
        """Raises StatusError ALREADY_EXISTS, reason VOICE_EXISTS, or RESOURCE_EXHAUSTED, reason VOICE_LIMIT."""
        values = asdict(voice) | {"codes": codes}

        async def insert(connection: AsyncConnection) -> None:
            if connection.dialect.name == "postgresql":  # an owner's voices are counted one after the other
                await connection.execute(_LOCK_OWNER, {"owner": voice.owner})
            await connection.execute(sa.insert(VOICES).values(**values))  # takes SQLite's lock before the count
            owned = sa.select(sa.func.count()).select_from(VOICES).where(VOICES.c.owner == voice.owner)
            if (await connection.scalar(owned) or 0) > max_per_owner:
                raise too_many(voice.owner, max_per_owner)

        async def insert_in_turn() -> None:
            """One connection waits for the owner's lock, which another gateway may hold for long; not all of them."""
            turn = self._adding.setdefault(voice.owner, asyncio.Lock())
            async with _bounded():
                await turn.acquire()
            try:
                await self._transaction(insert)
            finally:
                turn.release()

        try:
            await self._to_the_end(insert_in_turn())
        except IntegrityError:
            raise already_exists(voice.name) from None

    async def delete(self, name: str, owner: str) -> bool:
        """Whether there was one of that owner."""
        if not _may_be_kept(name):
            return False
        query = sa.delete(VOICES).where(VOICES.c.name == name, VOICES.c.owner == owner)

        async def remove(connection: AsyncConnection) -> bool:
            return (await connection.execute(query)).rowcount > 0

        async def remove_and_forget() -> bool:
            removed = await self._transaction(remove)
            if removed:
                with suppress(StatusError):  # it is deleted
                    async with _bounded():
                        await empty_log(self._engine)
            return removed

        return await self._to_the_end(remove_and_forget())

    async def _read(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        async def rows() -> list[sa.Row[Any]]:
            await self._prepare()
            async with _bounded(), self._engine.connect() as connection:
                return list((await connection.execute(query)).all())

        return await self._to_the_end(rows())

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Runs `work` in a transaction, again if it lost against another one. Raises IntegrityError, StatusError."""
        await self._prepare()
        async with _bounded():
            last_s = asyncio.get_running_loop().time() + TIMEOUT_S - BUSY_S  # later, the limit could cut off SQLite
            attempt = 0
            while True:
                attempt += 1
                try:
                    async with self._engine.begin() as connection:
                        return await work(connection)
                except DBAPIError as error:
                    is_late = asyncio.get_running_loop().time() > last_s
                    if attempt == ATTEMPTS or is_late or not _lost_a_race(error):
                        raise
                    await asyncio.sleep(random.uniform(0, 0.02 * attempt))

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` in a task of its own, so that cancelling the caller interrupts no statement.

        An interrupted SQLite statement keeps its lock until its cursor is garbage collected, even if the connection is
        closed. The timeout of a step does not end one whose connection cannot be given back, as SQLAlchemy waits for
        that: SQLite's thread may hang. So the caller waits no longer than all steps may take.
        """
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(retrieve_exception)
        if not (await asyncio.wait([task], timeout=MOST_STEPS * TIMEOUT_S))[0]:  # which does not cancel the task
            log.error("the database of voices hangs")
            raise _unreachable()
        return task.result()

    async def _prepare(self) -> None:
        """Brings the schema up to date, once. Raises VoicesDatabaseError, or StatusError when it cannot be reached."""
        async with _bounded(), self._preparing:  # the wait for another caller's attempt is bounded too
            if self._is_ready:
                return
            async with _MIGRATING.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                try:
                    await self._migrate()
                except DBAPIError:  # of SQLite, while another process makes the same new file a WAL database
                    await self._migrate()
            self._is_ready = True

    async def _migrate(self) -> None:
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(migrate)
        except CommandError as error:
            raise VoicesDatabaseError(
                f"--voices-database has a schema that this version does not know: {error}"
            ) from None


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Gives the block TIMEOUT_S. Failures of the database and of the network are raised as StatusError."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except (IntegrityError, VoicesDatabaseError):
        raise
    except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
        log.error("the database of voices cannot be used: %s", _without_values(error))
        raise _unreachable() from None


def _unreachable() -> StatusError:
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        "VOICES_UNREACHABLE",
        "The database of voices cannot be reached.",
        retry_delay_s=1.0,
    )


def _without_values(error: Exception) -> str:
    """The driver's message. SQLAlchemy's own would show the values of the statement."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(cause).__name__}: {cause}"


def _may_be_kept(name: str) -> bool:
    """Whether a voice can have this name. PostgreSQL fails for some others, such as those with U+0000."""
    return VOICE_NAME.fullmatch(name) is not None


def _lost_a_race(error: DBAPIError) -> bool:
    """A serialization failure or deadlock of PostgreSQL, or a lock of SQLite."""
    return getattr(error.orig, "sqlstate", "") in ("40001", "40P01") or "database is locked" in str(error.orig)


def _voice(row: sa.Row[Any]) -> KeptVoice:
    values = row._asdict()
    changed = {
        "audience": Audience(values["audience"]),
        "callers": tuple(values["callers"]),
        "language_codes": tuple(values["language_codes"]),
    }
    return KeptVoice(**(values | changed))
