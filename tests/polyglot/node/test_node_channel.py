"""How the Node client reaches several gateways, and one that is full, frozen or gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context
from services.common.rpc.status import StatusError, abort
from tests.polyglot.node.library.scripted import FRAMES, Scripted
from tests.support.network.tcp_relay import tcp_relay
from tests.support.network.tts_server import tts_server

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

Answer = Callable[[Context], Awaitable[None]]

CALLS = """
import { Client } from '%s/index.mjs';

const client = new Client(process.argv[2], { deadlineSeconds: 200 });
for (let count = 0; count < Number(process.argv[3]); count += 1) {
  const { audioContent } = await client.synthesize('Hello.');
  console.log(audioContent.length);
}
client.close();
"""


TWO_CLIENTS = """
import { Client } from '%s/index.mjs';

const clients = [new Client(process.argv[2]), new Client(process.argv[2])];
for (const client of clients) console.log((await client.synthesize('Hello.')).audioContent.length);
for (const client of clients) client.close();
"""


class Speaker(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Says two bytes, once `answer` has let it."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.num_calls = 0
        self.peers = set[str]()
        self._answer = answer

    async def Synthesize(self, request: tts_pb2.SynthesizeRequest, context: Context) -> tts_pb2.SynthesizeResponse:
        self.num_calls += 1
        self.peers.add(context.peer())
        if self._answer is not None:
            await self._answer(context)
        return tts_pb2.SynthesizeResponse(audio_content=b"ab")


async def calls(
    node: Any, tmp_path: Path, target: str, count: int, program: str = CALLS
) -> tuple[int | None, str, str]:
    script = tmp_path / "calls.mjs"
    script.write_text(program % node.folder)
    process = await asyncio.create_subprocess_exec(
        "node", str(script), target, str(count), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_calls_go_to_all_gateways_in_turn(node: Any, tmp_path: Path) -> None:
    one, other = Speaker(), Speaker()
    async with tts_server(one) as first, tts_server(other) as second:
        code, stdout, stderr = await calls(node, tmp_path, f"ipv4:127.0.0.1:{first},127.0.0.1:{second}", 8)
    assert (code, stdout) == (0, "2\n" * 8), stderr
    assert min(one.num_calls, other.num_calls) >= 3  # the second connection may be there later


async def test_each_client_has_a_connection_of_its_own(node: Any, tmp_path: Path) -> None:
    """A gateway takes so many calls on one connection."""
    service = Speaker()
    async with tts_server(service) as port:
        code, stdout, stderr = await calls(node, tmp_path, f"127.0.0.1:{port}", 1, TWO_CLIENTS)
    assert (code, stdout, len(service.peers)) == (0, "2\n" * 2, 2), stderr


async def test_a_call_refused_by_a_full_server_is_retried(node: Any, tmp_path: Path) -> None:
    times: Counter[str] = Counter()

    async def full_at_first(context: Context) -> None:
        times["called"] += 1
        if times["called"] == 1:
            await abort(context, StatusError(grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL", "Full.", retry_delay_s=0.2))

    service = Speaker(full_at_first)
    async with tts_server(service) as port:
        code, stdout, stderr = await calls(node, tmp_path, f"127.0.0.1:{port}", 1)
    assert (code, stdout, service.num_calls) == (0, "2\n", 2), stderr


async def test_calls_that_one_gateway_refuses_are_made_at_another_as_long_as_some_succeed(
    node: Any, tmp_path: Path
) -> None:
    async def refuse(context: Context) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The engine cannot be reached.")

    one, other = Speaker(), Speaker(refuse)
    async with tts_server(one) as first, tts_server(other) as second:
        code, stdout, stderr = await calls(node, tmp_path, f"ipv4:127.0.0.1:{first},127.0.0.1:{second}", 20)
    assert (code, stdout) == (0, "2\n" * 20), stderr
    assert other.num_calls > 5


async def test_a_silent_server_is_detected_and_the_call_retried(node: Any, tmp_path: Path) -> None:
    """A relay in front of the first server falls silent once a call is there."""
    for_ever = asyncio.Event()

    async def hang(context: Context) -> None:
        relay.silence()
        relay.target_port = second
        await for_ever.wait()

    silent, other = Speaker(hang), Speaker()
    async with tts_server(silent) as inner, tts_server(other) as second, tcp_relay(inner) as relay:
        async with asyncio.timeout(60):  # 6 s until it is missed
            code, stdout, stderr = await calls(node, tmp_path, f"127.0.0.1:{relay.port}", 4)
        for_ever.set()
    assert (code, stdout, silent.num_calls) == (0, "2\n" * 4, 1), stderr
    assert other.num_calls == 4


SILENT = """
import { Client } from '%s/index.mjs';

const client = new Client(process.argv[2], { deadlineSeconds: 200 });
const stream = client.stream('stall', { seed: 7 });
let bytes = 0;
const at = Date.now();
for await (const chunk of stream) {
  bytes += chunk.length;
  if (bytes === chunk.length) console.log('hears');
}
console.log(bytes / 2 / 1920, Math.round((Date.now() - at) / 1000));
client.close();
"""


async def test_a_stream_of_a_silent_server_resumes_at_another_one(node: Any, tmp_path: Path) -> None:
    silent, other = Scripted(), Scripted(stalls=False)
    script = tmp_path / "silent.mjs"
    script.write_text(SILENT % node.folder)
    async with tts_server(silent) as inner, tts_server(other) as second, tcp_relay(inner) as relay:
        target = f"127.0.0.1:{relay.port}"
        process = await asyncio.create_subprocess_exec("node", str(script), target, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(60):  # 6 s until it is missed
            assert await process.stdout.readline() == b"hears\n"
            relay.silence()
            relay.target_port = second
            frames, _, seconds = (await process.stdout.readline()).decode().partition(" ")
        assert (await process.wait(), int(frames)) == (0, FRAMES)
    assert (silent.calls["stall"], other.calls["stall"]) == (1, 1)
    assert 3 < int(seconds) < 30
