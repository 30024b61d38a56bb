"""What the Node library sends with its calls, and how they go on when their server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.calls import Context
from tests.polyglot.node.library.programs import found
from tests.polyglot.node.library.scripted import FRAMES, scripted
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

WRONG_NAMES = ["a b", "a-bin", "grpc-a"]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLS = """
const passing = new Client(target, { token: 'secret', metadata: { traceparent: '%s' } });
const recording = Buffer.from('RIFF');
for (const call of [
  () => passing.synthesize('Hi.'), () => heard(passing.stream('Hi.')), () => heard(passing.streamText(['Hi.'])),
  () => passing.listVoices(), () => passing.createVoice('ada', { seed: 7 }), () => passing.getVoice('ada'),
  () => passing.deleteVoice('ada'), () => passing.detectWatermark(recording), () => passing.findWatermarks(recording),
  () => passing.serverInfo(),
]) await tell(call);
passing.close();
for (const metadata of [
  'traceparent', { traceparent: 5 }, { key: 's\u00e9cret' }, { 'a b': '' }, { 'a-bin': '' }, { 'grpc-a': '' },
]) await tell(() => new Client(target, { metadata }));
"""


class Refusing(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # only the stubs have arguments
    """Keeps the metadata of calls of every method, and refuses them."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def service(self, details: Any) -> Any:
        self.seen[details.method.rsplit("/", 1)[1]] = dict(details.invocation_metadata)

        async def answer(requests: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")

        return grpc.stream_stream_rpc_method_handler(answer)


@asynccontextmanager
async def serving(*handlers: Any, servicer: Any = None, port: int = 0) -> AsyncIterator[tuple[grpc.aio.Server, int]]:
    server = grpc.aio.server(handlers=handlers)
    if servicer is not None:
        tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(0)


async def test_every_call_carries_the_token_and_the_callers_own_metadata(node: Any, tmp_path: Path) -> None:
    refusing = Refusing()
    async with serving(refusing) as (_, port):
        told = await found(CALLS % PARENT, node, tmp_path, f"127.0.0.1:{port}")
    refused, (no_object, no_text, no_ascii, *names) = told[:10], told[10:]
    assert [message for _, message in refused] == ["3 INVALID_ARGUMENT: refused"] * 10 and len(refusing.seen) == 10
    for method, metadata in refusing.seen.items():
        assert (metadata["authorization"], metadata["traceparent"]) == ("Bearer secret", PARENT), method
    assert no_object == "connection.metadata is 'traceparent'; it must be an object."
    assert no_text == "connection.metadata.traceparent is no string of printable ASCII characters."
    assert no_ascii == "connection.metadata.key is no string of printable ASCII characters."  # it may be a secret
    assert [name.split("; ")[0] for name in names] == [f"connection.metadata has '{key}'" for key in WRONG_NAMES]


CHUNKS = """
const sizes = async (stream) => {
  const found = [];
  for await (const chunk of stream) found.push(chunk.length / 2);
  return found;
};
await tell(() => sizes(client.stream('Hello.', { chunkSeconds: 0.32 })));
await tell(() => sizes(client.streamText(['Hello.'], { chunkSeconds: 0.32 })));
await tell(() => client.synthesize('Hello.', { chunkSeconds: 0.32 }));
await tell(() => client.stream('Hello.', { chunkSeconds: 'long' }));
"""


async def test_a_stream_may_be_asked_for_chunks_of_a_length(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        one, text, whole, wrong = await found(CHUNKS, node, tmp_path, running.target)
    assert one == text == [4 * 1920, 4 * 1920, 2 * 1920]
    assert whole.startswith("There is no 'chunkSeconds' in speech;")
    assert wrong == "speech.chunkSeconds is 'long'; it must be a number."


class Away(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Answers when `answers`; else a call waits until its server is gone."""

    def __init__(self, *, answers: bool) -> None:
        self.called = asyncio.Event()
        self._answers = answers

    async def Synthesize(self, request: tts_pb2.SynthesizeRequest, context: Context) -> tts_pb2.SynthesizeResponse:
        self.called.set()
        if not self._answers:
            await asyncio.sleep(100)
        return tts_pb2.SynthesizeResponse(voice="ada")


WAITS = """
const patient = new Client(target, { deadlineSeconds: SECONDS });
await tell(async () => (await patient.synthesize('Hello.')).voice);
patient.close();
"""


@pytest.mark.parametrize("comes", [True, False])
async def test_a_lost_call_waits_for_a_server_that_starts_later(node: Any, tmp_path: Path, comes: bool) -> None:
    """As with the Python clients. When none comes, the loss is told, and no deadline."""
    away = Away(answers=False)
    async with asyncio.timeout(100):
        async with serving(servicer=away) as (_, port):
            waits = WAITS.replace("SECONDS", "60" if comes else "5")
            calling = asyncio.create_task(found(waits, node, tmp_path, f"127.0.0.1:{port}"))
            await away.called.wait()
        await asyncio.sleep(1)
        async with serving(servicer=Away(answers=True), port=port if comes else 0):
            (told,) = await calling
    assert told == "ada" if comes else told[0] is None and "DEADLINE" not in told[1]


LARGE = """
const context = [{ speaker: 0, text: 'Before.', recording: Buffer.alloc(2 * 1024 * 1024) }];
const methods = {
  synthesize: (text) => client.synthesize(text, { context }),
  stream: (text) => client.stream(text, { context }).readAll(),
};
await tell(async () => (await methods.METHOD('full once')).voice);
"""


@pytest.mark.parametrize("method", ["synthesize", "stream"])
async def test_a_large_request_refused_by_a_full_server_is_retried(node: Any, tmp_path: Path, method: str) -> None:
    """gRPC does so for small ones; those of more than 1 MiB failed at once."""
    program = LARGE.replace("METHOD", method)
    async with scripted() as gateway:
        (told,) = await found(program, node, tmp_path, gateway.target)
    assert told == "ada" and gateway.calls["full once"] == 2


LATE = """
const hasty = new Client(target, { deadlineSeconds: 2 });
const stream = hasty.stream('Hello.');
await sleep(2.5);
await tell(async () => (await heard(stream)).length / 2 / 1920);
"""


async def test_the_deadline_of_a_stream_begins_with_its_iteration(node: Any, tmp_path: Path) -> None:
    """So does its call: streams made ahead, to be heard one after another, would be over before they began."""
    async with scripted() as gateway:
        assert await found(LATE, node, tmp_path, gateway.target) == [FRAMES]
