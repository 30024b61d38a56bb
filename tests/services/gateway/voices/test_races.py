"""Transactions and migrations that lost against another gateway's are tried again, others are not."""

from __future__ import annotations

import random

import pytest
from sqlalchemy.exc import OperationalError

from services.common.rpc.status import StatusError
from services.gateway.voices import store as store_module
from services.gateway.voices.migrate import migrate
from services.gateway.voices.store import ATTEMPTS, VoiceStore


class DriverError(Exception):
    """The error of a database's driver."""

    def __init__(self, message: str = "", sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Work:
    """A transaction that fails so many times."""

    def __init__(self, error: DriverError, failures: int) -> None:
        self._error, self._failures, self.attempts = error, failures, 0

    async def __call__(self, _connection: object) -> str:
        self.attempts += 1
        if self.attempts <= self._failures:
            raise OperationalError("INSERT", {}, self._error)
        return "done"


LOST = [DriverError(sqlstate="40001"), DriverError(sqlstate="40P01"), DriverError("database is locked")]


@pytest.mark.parametrize("error", LOST, ids=["serialization", "deadlock", "lock"])
async def test_a_transaction_that_lost_is_tried_again(
    store: VoiceStore, error: DriverError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)
    work = Work(error, ATTEMPTS - 1)
    assert await store._transaction(work) == "done" and work.attempts == ATTEMPTS
    with pytest.raises(StatusError) as failed:
        await store._transaction(work := Work(error, ATTEMPTS))
    assert failed.value.reason == "VOICES_UNREACHABLE" and work.attempts == ATTEMPTS


async def test_a_transaction_that_failed_otherwise_is_not_tried_again(store: VoiceStore) -> None:
    with pytest.raises(StatusError) as failed:
        await store._transaction(work := Work(DriverError("disk full", sqlstate="53100"), 1))
    assert failed.value.reason == "VOICES_UNREACHABLE" and work.attempts == 1


async def test_a_migration_that_meets_another_one_is_tried_again(
    store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[bool]()

    def migrate_later(connection: object) -> None:
        begun.append(True)
        if len(begun) == 1:
            raise OperationalError("PRAGMA", {}, DriverError("database is locked"))
        migrate(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "migrate", migrate_later)
    for _ in range(2):  # once it has succeeded, it is not tried again
        assert await store.count() == 0 and len(begun) == 2
