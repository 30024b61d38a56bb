"""How a channel behaves towards a server that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from csm_client import AsyncClient, UnavailableError, channel

from tests.support.network.never_answers import never_connects, never_speaks

LONGEST_S = 5.0 * 1.2 + 1.0  # with gRPC's jitter, on a busy machine


@pytest.mark.slow
async def test_an_unreachable_server_is_retried_every_few_seconds() -> None:
    tried_at_s: list[float] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried_at_s.append(time.monotonic())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as away:
        target = f"127.0.0.1:{away.sockets[0].getsockname()[1]}"
        async with AsyncClient(target) as client:
            client._connection.channel.get_state(try_to_connect=True)
            for _ in range(30):
                await asyncio.sleep(1.0)
                client._connection.channel.get_state(try_to_connect=True)
    waits_s = [after - before for before, after in zip(tried_at_s, tried_at_s[1:], strict=False)]
    assert len(waits_s) >= 5 and max(waits_s) <= LONGEST_S, waits_s


@pytest.mark.parametrize("address", [never_connects, never_speaks])
async def test_an_address_that_never_answers_does_not_hold_a_call_until_its_deadline(
    address: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CONNECT_MS", 300)
    with address() as target:
        async with AsyncClient(target, timeout_s=15) as client:  # gRPC's own limit is 20 s
            with pytest.raises(UnavailableError):
                await client.synthesize("Hello.")
