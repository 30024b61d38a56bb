"""clients/node announces the size of a large request, so that a server lets it wait."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from services.gateway.budgets.arrivals import ANNOUNCED_KEY
from tests.polyglot.conftest import NODE_CLIENT
from tests.polyglot.humming_server import FORMAT, audio

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(100)]

# Calls each method with a recording of so many bytes. The server refuses all of them.
PROGRAM = """
import { Client } from '%s/index.mjs';
const client = new Client(process.argv[1]);
const recording = Buffer.alloc(Number(process.argv[2]));
const speech = { context: [{ speaker: 0, text: 'Before.', recording }] };
const hear = async (stream) => { for await (const _ of stream); };
const calls = [
  () => client.synthesize('Hello.', speech),
  () => hear(client.stream('Hello.', speech)),
  () => hear(client.streamText(['Hello.'], speech)),
  () => client.createVoice('ada', { recording, text: 'Before.', consent: { id: '17', text: 'Yes.' } }),
  () => client.detectWatermark(recording),
];
for (const call of calls) {
  const outcome = await call().then(() => 'well', (error) => error.code);
  if (outcome !== 3) throw new Error(`it ended with ${outcome}`);
}
client.close();
"""


class Recorder(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # only the stubs have arguments
    """Notes what each call announces and the bytes of its request. It loses the first call of StreamSynthesize."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], int]] = []

    def service(self, details: Any) -> Any:
        name = details.method.rsplit("/", 1)[1]
        announced = [value for key, value in details.invocation_metadata if key == ANNOUNCED_KEY]

        async def answer(requests: Any, context: Any) -> None:
            self.calls.append((name, announced, len(await anext(aiter(requests)))))
            if name == "StreamSynthesize" and len(self.calls) == 2:
                header = tts_pb2.SynthesisHeader(audio_format=FORMAT, seed=7)
                for message in (tts_pb2.StreamSynthesizeResponse(header=header), *audio(range(1))):
                    await context.write(message.SerializeToString())
                await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")

        return grpc.stream_stream_rpc_method_handler(answer)


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(("size", "is_large"), [(300 * 1024, True), (200 * 1024, False)], ids=["large", "small"])
async def test_large_requests_announce_their_size_in_all_methods_and_resumes(size: int, is_large: bool) -> None:
    recorder = Recorder()
    server = grpc.aio.server(handlers=[recorder])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        program = PROGRAM % NODE_CLIENT
        command = ["node", "--input-type=module", "-e", program, f"127.0.0.1:{port}", str(size)]
        running = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, stderr = await running.communicate()
        assert running.returncode == 0, stderr.decode()
    finally:
        await server.stop(0)
    names = [name for name, _, _ in recorder.calls]
    streams = ["StreamSynthesize", "StreamSynthesize", "StreamSynthesizeText"]
    assert names == ["Synthesize", *streams, "CreateVoice", "DetectWatermark"]
    for name, announced, num_bytes in recorder.calls:
        assert num_bytes > size
        if is_large:
            (value,) = announced
            assert 0 <= num_bytes - int(value) < 32, name  # what goes on says its seed and what was heard as well
        else:
            assert not announced, name
