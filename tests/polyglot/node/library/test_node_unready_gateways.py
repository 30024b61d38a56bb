"""Several gateways that a target lists: the Node client gives those that report NOT_SERVING no calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm_client.channel import WATCHED, service_config
from csm_client.targets import lists_several

from tests.support.network.tcp_relay import tcp_relay
from tests.support.network.watched_gateways import (
    NOT_SERVING,
    SERVING,
    FullHealth,
    Gateway,
    RefusingHealth,
    SilentHealth,
    UnreadableHealth,
    gateway,
    listed,
)

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

CALLS = 20  # of which half are tried twice: more failures than end gRPC's retries
REFUSED = "14 UNAVAILABLE: The engine cannot be reached."
PROGRAM = """
import { createInterface } from 'node:readline';
import { Client } from '%s/index.mjs';

const client = new Client(process.argv[2], { deadlineSeconds: 60 });
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'close') client.close();
  const answers = [];
  for (let count = 0; count < Number(line); count += 1) {
    answers.push(await client.listVoices().then(() => 'answered', (error) => error.message));
  }
  console.log(JSON.stringify(answers));
}
"""


class Caller:
    """A process with a client of the Node library, which it does not close by itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, count: int = 1) -> list[str]:
        """What the calls, one after the other, have ended with."""
        answers: list[str] = json.loads(await self._ask(str(count)))
        return answers

    async def close(self) -> None:
        await self._ask("close")

    async def _ask(self, line: str) -> bytes:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self._process.stdout.readline()


@asynccontextmanager
async def caller(node: Any, folder: Path, target: str) -> AsyncIterator[Caller]:
    """Its process must end by itself."""
    (folder / "calls.mjs").write_text(PROGRAM % node.folder)
    command = ["node", str(folder / "calls.mjs"), target]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield Caller(process)
        await asyncio.wait_for(process.communicate(b""), 60)
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()


async def test_no_call_goes_to_a_gateway_that_does_not_serve(node: Any, tmp_path: Path) -> None:
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other:
        async with caller(node, tmp_path, listed(one, other)) as client:
            assert await client.call(CALLS) == ["answered"] * CALLS
        assert (one.num_calls, other.num_calls) == (CALLS, 0)


async def test_gateways_that_serve_get_calls_in_turn(node: Any, tmp_path: Path) -> None:
    async with gateway(SERVING) as one, gateway(SERVING) as other:
        async with caller(node, tmp_path, listed(one, other)) as client:
            await client.call(CALLS)
        assert min(one.num_calls, other.num_calls) >= 3  # the second connection may be there later


async def test_a_gateway_that_begins_to_serve_gets_calls_and_one_that_ends_gets_none(node: Any, tmp_path: Path) -> None:
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other:
        async with caller(node, tmp_path, listed(one, other)) as client:
            await client.call()
            other.report(SERVING)
            while not other.num_calls:
                assert await client.call() == ["answered"]
            one.health.set("csm.v1.TextToSpeechService", NOT_SERVING)  # it drains: what comes is still answered
            before = -1
            while one.num_calls != before:
                before = one.num_calls
                assert await client.call(CALLS) == ["answered"] * CALLS


async def test_while_none_serves_they_say_themselves_why_they_refuse_and_the_first_to_serve_gets_all_calls(
    node: Any, tmp_path: Path
) -> None:
    async with gateway(NOT_SERVING) as one, gateway(NOT_SERVING) as other:
        async with caller(node, tmp_path, listed(one, other)) as client:
            assert await client.call(3) == [REFUSED] * 3
            assert one.num_calls and other.num_calls
            one.report(SERVING)
            before = -1
            while other.num_calls != before:
                before = other.num_calls
                answers = await client.call(CALLS)
            assert answers == ["answered"] * CALLS


async def test_while_a_lost_gateway_is_connected_again_calls_wait_for_it(node: Any, tmp_path: Path) -> None:
    """Instead of going to one that reports that it does not serve."""
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other, tcp_relay(one.port) as relay:
        async with caller(node, tmp_path, f"ipv4:127.0.0.1:{relay.port},127.0.0.1:{other.port}") as client:
            for _ in range(CALLS):
                assert await client.call() == ["answered"]
                relay.cut()
        assert other.num_calls == 0


async def test_when_the_only_gateway_that_serves_is_gone_the_others_say_why_they_refuse(
    node: Any, tmp_path: Path
) -> None:
    async with gateway(NOT_SERVING) as other, gateway(NOT_SERVING) as third:
        async with gateway(SERVING) as one, caller(node, tmp_path, listed(one, other, third)) as client:
            assert await client.call() == ["answered"]
            await one.stop()
            while await client.call() != [REFUSED]:
                pass
        assert other.num_calls


async def test_gateways_that_do_not_tell_get_calls(node: Any, tmp_path: Path) -> None:
    """Those of version 0.1."""
    await both_get_calls(node, tmp_path, tells=False)


@pytest.mark.parametrize(
    "health",
    [RefusingHealth(grpc.StatusCode.UNAUTHENTICATED), SilentHealth(), UnreadableHealth(), FullHealth()],
    ids=["a proxy wants a token", "no answer comes", "it is of another kind", "there are too many watches"],
)
async def test_gateways_whose_health_cannot_be_known_get_calls(node: Any, tmp_path: Path, health: Any) -> None:
    await both_get_calls(node, tmp_path, health=health)


async def both_get_calls(node: Any, folder: Path, **how: Any) -> None:
    async with gateway(SERVING, **how) as one, gateway(SERVING, **how) as other:
        async with caller(node, folder, listed(one, other)) as client:
            while not (one.num_calls and other.num_calls):
                assert await client.call() == ["answered"]


async def test_a_closed_client_watches_no_more(node: Any, tmp_path: Path) -> None:
    async with gateway(SERVING) as one, gateway(NOT_SERVING) as other:
        async with caller(node, tmp_path, listed(one, other)) as client:
            await client.call()
            assert await watchers(one, 1) == await watchers(other, 1) == 1
            await client.close()
            assert await watchers(one, 0) == await watchers(other, 0) == 0  # the process still runs


async def watchers(server: Gateway, expected: int) -> int:
    """Once they are as many as expected."""
    while (count := server.health.num_watches) != expected:
        await asyncio.sleep(0.01)
    return count


async def test_a_single_gateway_says_itself_why_it_refuses(node: Any, tmp_path: Path) -> None:
    async with gateway(NOT_SERVING) as only, caller(node, tmp_path, f"127.0.0.1:{only.port}") as client:
        assert await client.call() == [REFUSED]
        assert only.health.num_watches == 0


TARGETS = [
    "ipv4:10.0.0.1:50051,10.0.0.2:50051",
    "ipv6:[::1]:50051,[::2]:50051",
    "ipv4:10.0.0.1:50051",
    "10.0.0.1:50051",
    "dns:///replicas:50051",
    "dns:///a,b:50051",
    "unix:/run/a,b",
]


async def test_the_service_config_is_the_python_clients_but_for_the_policy_of_targets_that_list_several(
    node: Any,
) -> None:
    script = f"""
    import {{ channelOptions }} from '{node.folder}/channel.mjs';
    const configs = {json.dumps(TARGETS)}.map((target) => channelOptions({{ target }})['grpc.service_config']);
    console.log(JSON.stringify(configs.map((config) => JSON.parse(config))));
    """
    command = ["node", "--input-type=module", "-e", script]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    policy = {"csm_serving": {"service": WATCHED["healthCheckConfig"]["serviceName"]}}
    plain = json.loads(service_config(watched=False))
    of_several = plain | {"loadBalancingConfig": [policy]}
    assert json.loads(told) == [of_several if lists_several(target) else plain for target in TARGETS]
