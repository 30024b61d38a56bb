"""The npm package, packed and installed into an empty folder: as a library, as a command, and its types."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.polyglot.humming_server import FRAME
from tests.polyglot.node.library.test_node_connection import Refusing, serving

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(500)]

NODE_CLIENT = Path(__file__).parents[3] / "clients" / "node"

LISTEN = """
async function listen({ Client }) {
  const client = new Client(process.argv[2]);
  const stream = client.stream('Hello.', { speaker: 0, seed: 7n });
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  const { header, summary } = stream;
  console.log(JSON.stringify({ bytes, rate: header.audioFormat.sampleRateHertz, end: summary.finishReason }));
  client.close();
}
"""
PROGRAMS = {
    "listen.mjs": f"import * as csm from 'csm-client-node';\n{LISTEN}\nawait listen(csm);",
    "imports.cjs": f"{LISTEN}\nimport('csm-client-node').then(listen);",
    "requires.cjs": f"{LISTEN}\nlisten(require('csm-client-node'));",
}
TYPED = """
import { createReadStream } from 'node:fs';
import { Client, details, IncompleteAudioError, NotFoundError, ServerError, wav } from 'csm-client-node';
import type { KeptVoice, TextPiece } from 'csm-client-node';
const client = new Client('127.0.0.1:1', { deadlineSeconds: 5 });
const stream = client.streamText(['Hello, ', 'you.'], { voice: 'anna', seed: 7n });
for await (const chunk of stream) wav(chunk, stream.header!.audioFormat).writeUInt8(0);
const flush: TextPiece = { text: 'Now.', flush: true };
client.streamText([flush, 'Then.']);
(await client.stream('Hello.').readAll()).audioContent.writeUInt8(0);
stream.sentences.map(({ text, sampleOffset }) => text.repeat(sampleOffset));
try {
  const options = { returnCodes: true, sampleRateHertz: 8000, encoding: 'mulaw' } as const;
  const { summary } = await client.synthesize('Hello.', options);
  const before = { speaker: 0, text: 'Hello.', codes: summary.codes, sealedCodes: summary.sealedCodes };
  client.stream('Yes.', { context: [before], temperature: 0.5, topK: 7, labels: { of: 'ada' } });
  console.log(summary.stats!.firstAudioLatency!.nanos, (await client.listVoices('en'))[0].seed!.toFixed());
  const consent = { id: '17', text: 'Yes.' };
  const prompt = { text: 'Hello.', recording: new Uint8Array(), sealedCodes: summary.sealedCodes, consent };
  const more = { seed: 7n, callers: ['shop'], languages: ['en'], speaker: 1, description: 'Calm.' };
  const kept: KeptVoice = await client.createVoice('ada', { ...prompt, ...more });
  console.log(kept.voice!.name, kept.createTime!.seconds, kept.promptLevelDb?.toFixed());
  await client.deleteVoice((await client.getVoice('ada')).owner);
  const info = await client.serverInfo();
  console.log(info.limits!.maxTextLength.toFixed(), info.audioEncodings.length, info.watermark!.keyId);
  const { stretches } = await client.findWatermarks(createReadStream('a.wav'), ['key-1']);
  console.log((await client.detectWatermark(new Uint8Array())).detected, stretches[0].startOffset!.seconds);
} catch (error) {
  const { reason, fieldViolations, retryDelaySeconds } = details(error);
  console.log(reason?.length, fieldViolations[0].field.length, retryDelaySeconds?.toFixed());
  if (error instanceof IncompleteAudioError) console.log(error.receivedSampleCount.toFixed(), error.cause?.code);
  if (error instanceof NotFoundError) console.log(error.reason.length, error.metadata.get('a').length);
  if (error instanceof ServerError) console.log(error.fieldViolations[0].field, error.retryDelaySeconds?.toFixed());
}
// @ts-expect-error
client.stream('Hello.', { sead: 7 });
// @ts-expect-error
client.createVoice('ada', { audio: new Uint8Array() });
// @ts-expect-error
client.findWatermarks('a.wav');
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("npm")
    packed = subprocess.check_output(["npm", "pack", "--json", "--pack-destination", str(folder)], cwd=NODE_CLIENT)
    (folder / "package.json").write_text('{"private": true}')
    tarball = next(folder.glob("*.tgz"))
    assert tarball.stat().st_size < 100_000, packed
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
    packages = [f"./{tarball.name}", "typescript@5.9.3", "@types/node@20"]
    subprocess.run(["npm", "install", *quiet, *packages], cwd=folder, check=True, capture_output=True)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def node_version() -> tuple[int, int]:
    major, minor, _ = subprocess.check_output(["node", "-p", "process.versions.node"], text=True).split(".")
    return int(major), int(minor)


@pytest.mark.parametrize("program", PROGRAMS)
def test_package_is_a_library_for_modules_of_both_kinds(folder: Path, fake_server: Any, program: str) -> None:
    if program == "requires.cjs" and node_version() < (20, 19):
        pytest.skip("this Node cannot require a module; it can import() one")
    (folder / program).write_text(PROGRAMS[program])
    done = run(folder, "node", program, fake_server.target)
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard == {"bytes": 13 * len(FRAME), "rate": 24_000, "end": "FINISH_REASON_END_OF_SPEECH"}


def test_package_brings_a_command(folder: Path, fake_server: Any) -> None:
    done = run(folder, "node_modules/.bin/csm-say", "Hello.", "--target", fake_server.target, "--out", "a.wav")
    assert done.returncode == 0, done.stderr
    with wave.open(str(folder / "a.wav")) as file:
        assert file.getnframes() == 13 * len(FRAME) // 2


def test_types_fit_a_caller_and_refuse_a_wrong_option(folder: Path) -> None:
    (folder / "caller.mts").write_text(TYPED)
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    done = run(folder, "node_modules/.bin/tsc", *options, "caller.mts")
    assert done.returncode == 0, done.stdout


def test_an_exception_of_the_pieces_is_thrown_and_closing_ends_the_call(folder: Path, fake_server: Any) -> None:
    program = """
import { Client } from 'csm-client-node';
const client = new Client(process.argv[2], { deadlineSeconds: 20 });
async function* broken() { yield 'One. '; throw new Error('the model failed'); }
try { for await (const _ of client.streamText(broken())); } catch (error) { console.log(error.message); }
const stalled = client.stream('stall');
for await (const chunk of stalled) { if (stalled.seconds > 0.2) break; }
console.log('left');
client.close();
"""
    (folder / "broken.mjs").write_text(program)
    done = run(folder, "node", "broken.mjs", fake_server.target)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["the model failed", "left"]), done.stderr


TRACED = """
import { ROOT_CONTEXT, context, createTraceState, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { Client } from 'csm-client-node';
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const span = trace.wrapSpanContext({
  traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', traceFlags: 1,
  traceState: createTraceState('shop=1'),
});
const [client, own] = [{}, { traceparent: 'own' }].map((metadata) => new Client(process.argv[2], { metadata }));
const current = trace.setSpan(ROOT_CONTEXT, span);
const refused = (work) => work.then(() => { throw new Error('it went through'); }, () => {});
const stream = context.with(current, () => client.stream('Hi.'));
await refused(stream.readAll()); // by whoever hears it
await context.with(current, () => refused(client.synthesize('Hi.')));
await context.with(current, () => refused(client.findWatermarks(Buffer.from('RIFF'))));
await context.with(current, () => refused(own.getVoice('ada')));
await refused(client.serverInfo());
for (const one of [client, own]) one.close();
"""


async def test_calls_carry_opentelemetry_s_current_span(folder: Path) -> None:
    """As the Python client's. Without OpenTelemetry nothing is sent, and nothing is missing: see the tests above."""
    (folder / "traced.mjs").write_text(TRACED)
    refusing = Refusing()
    async with serving(refusing) as (_, port):
        packages = ["@opentelemetry/api@1.9.0", "@opentelemetry/context-async-hooks@1.30.1"]
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
        installed = await asyncio.to_thread(run, folder, "npm", "install", *quiet, *packages)
        assert installed.returncode == 0, installed.stderr
        done = await asyncio.to_thread(run, folder, "node", "traced.mjs", f"127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    sent = {name: (seen.get("traceparent"), seen.get("tracestate")) for name, seen in refusing.seen.items()}
    span = ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "shop=1")
    traced = dict.fromkeys(["StreamSynthesize", "Synthesize", "StreamDetectWatermark"], span)
    assert sent == {**traced, "GetVoice": ("own", None), "GetServerInfo": (None, None)}
