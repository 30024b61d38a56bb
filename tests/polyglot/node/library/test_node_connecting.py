"""The Node library and an address that never answers: its calls fail soon, and its process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.polyglot.node.library.programs import found
from tests.polyglot.node.library.scripted import scripted
from tests.support.network.never_answers import never_connects, never_speaks
from tests.support.network.tcp_relay import TcpRelay

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

Address = Callable[[], AbstractContextManager[str]]
ADDRESSES = pytest.mark.parametrize("address", [never_connects, never_speaks])

FAILS = """
const encrypted = new Client(target, { tls: true, deadlineSeconds: 100 });
await Promise.all([
  tell(() => client.synthesize('Hello.')), // its deadline is 100 s away
  tell(() => client.serverInfo()),
  tell(() => encrypted.stream('Hello.').readAll()),
]);
encrypted.close();
"""


@ADDRESSES
async def test_an_address_that_never_answers_does_not_hold_a_call_until_its_deadline(
    node: Any, tmp_path: Path, address: Address
) -> None:
    with address() as target:
        told = await found(FAILS, node, tmp_path, target)
    messages = [message for _, message in told]
    assert [message.split(":")[0] for message in messages] == ["14 UNAVAILABLE"] * 3
    assert all("no connection within 6 s" in message for message in messages)


CLOSES = """
const connecting = new Client(target, { tls: true, deadlineSeconds: 100 });
const sockets = () => process.getActiveResourcesInfo().filter((kind) => kind.startsWith('TCP'));
const calling = connecting.serverInfo().catch(() => {});
while (sockets().length === 0) await sleep(0.01);
connecting.close();
await calling;
while (sockets().length > 0) await sleep(0.01); // the system gives up in two minutes, or never
found.push(process.uptime());
"""


@ADDRESSES
async def test_a_closed_client_connects_no_more(node: Any, tmp_path: Path, address: Address) -> None:
    """A process could not end for two minutes."""
    with address() as target:
        (uptime_s,) = await found(CLOSES, node, tmp_path, target)
    assert uptime_s < 60


BESIDE = """
const beside = new Client(target, { deadlineSeconds: 100 });
for (let count = 0; count < 3; count += 1) await tell(async () => (await beside.synthesize('Hello.')).voice);
beside.close();
"""


@ADDRESSES
async def test_an_address_that_never_answers_does_not_hold_the_calls_of_another_one(
    node: Any, tmp_path: Path, address: Address
) -> None:
    async with scripted() as gateway:
        with address() as silent:
            told = await found(BESIDE, node, tmp_path, f"ipv4:{silent},{gateway.target}")
    assert told == ["ada"] * 3


RECOVERS = """
const patient = new Client(target, { deadlineSeconds: 100 });
for (let voice; voice === undefined; await sleep(0.1)) {
  voice = await patient.synthesize('Hello.').then((speech) => speech.voice, () => undefined);
  if (voice !== undefined) found.push(voice);
}
patient.close();
"""


class SilentAtFirst(TcpRelay):
    """Never answers on its first connection."""

    _num_accepted = 0

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._num_accepted += 1
        if self._num_accepted == 1:
            await asyncio.Event().wait()
        await super()._relay(reader, writer)


async def test_an_address_that_did_not_answer_is_tried_again(node: Any, tmp_path: Path) -> None:
    async with scripted() as gateway:
        relay = SilentAtFirst(int(gateway.target.split(":")[1]))
        await relay.start()
        try:
            told = await found(RECOVERS, node, tmp_path, f"127.0.0.1:{relay.port}")
        finally:
            await relay.stop()
    assert told == ["ada"]
