"""An owner's voices are added one after the other, in a PostgreSQL that gateways share."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from services.common.rpc.status import StatusError
from services.gateway.voices import store as store_module
from services.gateway.voices.store import VoiceStore
from tests.services.gateway.voices.conftest import emptied
from tests.services.gateway.voices.test_store import VOICE


async def test_a_lock_that_another_gateway_holds_delays_no_other_owner(postgres: str) -> None:
    """As one that is frozen within a transaction. Each voice that waits for it could hold a connection."""
    operator = await asyncpg.connect(await asyncio.to_thread(emptied, postgres))
    store = VoiceStore(postgres)
    assert await store.get("ada") is None
    transaction = operator.transaction()
    await transaction.start()
    await operator.execute("SELECT pg_advisory_xact_lock(hashtextextended('shop', 0))")
    adding = [
        asyncio.create_task(store.add(replace(VOICE, name=f"voice-{number}", uid=f"{number:032}"), b"", 16))
        for number in range(16)
    ]
    try:
        while not await operator.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # in which the others would have taken the other connections
        assert await store.get("ada") is None
        await store.add(replace(VOICE, owner="other"), b"", 1)
        assert not any(each.done() for each in adding)
    finally:
        await transaction.rollback()
        await asyncio.gather(*adding, return_exceptions=True)
        await store.close()
        await operator.close()


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_limit_of_an_owner_holds_in_a_postgresql_with_another_default_isolation(
    isolation: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a transaction would count what was there before it waited for the others."""
    monkeypatch.setattr(store_module, "ATTEMPTS", 1)
    operator = await asyncpg.connect(await asyncio.to_thread(emptied, postgres))
    await operator.execute(f"ALTER DATABASE postgres SET default_transaction_isolation = '{isolation}'")
    stores = [VoiceStore(postgres) for _ in range(4)]  # of as many gateways

    async def add(number: int) -> str:
        try:
            await stores[number % 4].add(replace(VOICE, name=f"voice-{number}", uid=f"{number:032}"), b"", 3)
        except StatusError as error:
            return error.reason
        return "OK"

    try:
        await asyncio.gather(*(store.get("ada") for store in stores))  # opens connections
        outcomes = await asyncio.gather(*(add(number) for number in range(12)))
        assert outcomes.count("OK") == await stores[0].count("shop") == 3
        assert set(outcomes) == {"OK", "VOICE_LIMIT"}
    finally:
        for store in stores:
            await store.close()
        await operator.execute("ALTER DATABASE postgres RESET default_transaction_isolation")
        await operator.close()
