"""The Node library asks for all that the Python clients do, and tells as much of an answer or a failure."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc, voices_pb2, watermark_pb2
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from csm_bundle.errors import EngineBusyError
from services.common.rpc.status import StatusError, abort
from tests.support.door import page_examples as pages
from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import fake_frames
from tests.support.network.tts_server import tts_server

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

REQUEST_ID = "0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11"
START = """
import {{ Client, details }} from '{0}/index.mjs';

const client = new Client(process.argv[2], {{ deadlineSeconds: 20 }});
"""


async def run(program: str, node: Any, folder: Path, target: str) -> Any:
    (folder / "program.mjs").write_text(START.format(node.folder) + program + "\nclient.close();")
    done = await pages.run(["timeout", "60", "node", "program.mjs", target], folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


OPTIONS = """
const first = await client.synthesize('Hi.', { returnCodes: true });
const { codes, sealedCodes } = first.summary;
const stream = client.stream('Hello. And again.', {
  speaker: 3, voice: 'bo', language: 'de', context: [{ speaker: 0, text: 'Hi.', codes, sealedCodes }],
  temperature: 0, topK: 1, seed: 0, maxSeconds: 0.4, requestId: '%s', labels: { a: 'b' },
  encoding: 'mulaw', sampleRateHertz: 8000, asOneUtterance: true,
});
const silent = await client.synthesize('?!', { silenceWithoutWords: true });
if (!silent.audioContent.equals(Buffer.alloc(2 * 1920))) throw new Error('no silence');
let bytes = 0;
for await (const chunk of stream) bytes += chunk.length;
console.log(JSON.stringify([bytes, stream.header.requestId, stream.header.voice, stream.sentences]));
"""


async def test_every_option_reaches_the_server(node: Any, tmp_path: Path) -> None:
    """Of an answer's two fields of codes one is empty, and both may be given."""
    async with fake_deployment() as running:
        told = await run(OPTIONS % REQUEST_ID, node, tmp_path, running.target)
        assert told == [5 * 640, REQUEST_ID, "bo", []]
        sent = running.engine.calls[1].request
    assert [segment.text for segment in sent.segments] == ["Hi.", "Hello. And again."]
    assert sent.segments[-1].speaker_id == 3 and sent.segments[0].codes == fake_frames(0, 10)
    sampling = sent.sampling_params
    assert (sampling.temperature, sampling.top_k, sampling.seed, sent.max_frame_count) == (0, 1, 0, 5)


RECORDINGS = """
for (const encoding of ['wav', 'ogg_opus', 'mp3', 'aac', 'flac']) {
  const { audioContent: recording } = await client.synthesize('Before.', { encoding });
  await client.synthesize('Yes.', { context: [{ speaker: 0, text: 'Before.', recording }] });
}
"""


async def test_a_recording_of_every_format_is_context(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        await run(RECORDINGS, node, tmp_path, running.target)
        assert len(running.codec.encoded) == 5


SENTENCES = """
const stream = client.streamText(['One is here. ', 'Two is here.']);
for await (const _ of stream) { /* what comes is dropped */ }
console.log(JSON.stringify(stream.sentences));
"""


async def test_the_sentences_of_a_text_are_reported(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        assert await run(SENTENCES, node, tmp_path, running.target) == [
            {"text": "One is here.", "sampleOffset": 0},
            {"text": "Two is here.", "sampleOffset": 19_200},
        ]


FAILURES = """
const told = [details(undefined)];
for (const text of ['', 'Hello.']) {
  try {
    await client.synthesize(text);
  } catch (error) {
    told.push({ ...details(error), requestId: details(error).requestId.length });
  }
}
console.log(JSON.stringify(told));
"""


async def test_details_of_a_failure_are_fields_of_the_error(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        running.engine.refusal = EngineBusyError("full")
        nothing, empty, busy = await run(FAILURES, node, tmp_path, running.target)
        assert len(running.engine.calls) == 3  # by gRPC's retries: a refusal is no loss
    assert nothing == {"fieldViolations": []}
    field = {"field": "input.text", "description": "is empty; there is nothing to say."}
    assert empty == {"reason": "TEXT_EMPTY", "requestId": 36, "fieldViolations": [field]}
    assert busy == {"reason": "QUEUE_FULL", "requestId": 36, "fieldViolations": [], "retryDelaySeconds": 1}


WAITS = """
import { Heard } from './streaming/heard.mjs';
import { Losses } from './streaming/losses.mjs';

const losses = new Losses(10, Infinity);
const asked = (hex) => ({ code: 14, details: '', metadata: { get: () => [Buffer.from(hex, 'hex')] } });
const heard = Object.assign(new Heard(), { header: { seed: 7 } });
console.log(JSON.stringify(process.argv.slice(1).map((hex) => losses.delayAfter(asked(hex), heard))));
"""


def test_a_lost_stream_waits_as_long_as_a_server_asks_for_and_no_longer_than_two_seconds(node: Any) -> None:
    """As with the Python clients."""
    asked = []
    for seconds in (1.5, 30.0, 0.0, 0.0, 0.0, 0.0):
        detail = any_pb2.Any()
        delay = duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        asked.append(status_pb2.Status(code=14, details=[detail]).SerializeToString().hex())
    assert printed(WAITS, node, *asked) == [1500, 2000, 400, 800, 1600, 2000]


def test_unreadable_error_details_are_ignored(node: Any) -> None:
    """They would hide the failure itself."""
    program = """
        import { explain } from './errors.mjs';
        const metadata = { get: () => [Buffer.from([255])] };
        const failure = { code: 14, details: 'Full.', metadata };
        console.log(JSON.stringify([failure, undefined, 'why'].map(explain)));
    """
    assert printed(program, node) == [["UNAVAILABLE: Full."], ["undefined"], ["why"]]


class Losing(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Loses its first call after the first audio."""

    def __init__(self) -> None:
        self.requests: list[tts_pb2.StreamSynthesizeRequest] = []

    async def StreamSynthesize(self, request: Any, context: Any) -> AsyncIterator[tts_pb2.StreamSynthesizeResponse]:
        self.requests.append(request)
        form = tts_pb2.AudioFormat(audio_encoding="AUDIO_ENCODING_PCM", sample_rate_hertz=24_000, channel_count=1)
        yield tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=5, audio_format=form))
        chunk = tts_pb2.AudioChunk(audio_content=b"ab", sample_count=1)
        yield tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)
        if len(self.requests) == 1:
            await abort(context, StatusError(grpc.StatusCode.UNAVAILABLE, "LOST", "lost", retry_delay_s=1.0))
        stats = tts_pb2.SynthesisStats(sample_count=1)
        yield tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary(stats=stats))


@pytest.fixture
async def losing() -> AsyncIterator[tuple[Losing, str]]:
    service = Losing()
    async with tts_server(service) as port:
        yield service, f"127.0.0.1:{port}"


LEFT_BETWEEN = """
const stream = client.stream('Hello.');
try {
  for await (const _ of stream) setTimeout(() => stream.cancel(), 300);
} catch (error) {
  console.log(JSON.stringify(error.code));
}
"""


async def test_a_stream_closed_before_another_server_is_called_calls_none(
    node: Any, tmp_path: Path, losing: tuple[Losing, str]
) -> None:
    service, target = losing
    assert await run(LEFT_BETWEEN, node, tmp_path, target) == grpc.StatusCode.CANCELLED.value[0]
    assert len(service.requests) == 1


async def test_a_resumed_stream_has_the_same_sampling(node: Any, tmp_path: Path, losing: tuple[Losing, str]) -> None:
    service, target = losing
    program = (
        "for await (const _ of client.stream('Hello. And again.', { temperature: 0.5, topK: 7 })) { /* dropped */ }"
    )
    await run(program, node, tmp_path, target)
    first, again = (request.sampling_params for request in service.requests)
    assert (first.temperature, first.top_k, first.HasField("seed")) == (0.5, 7, False)
    assert (again.temperature, again.top_k, again.seed) == (0.5, 7, 5)


RESUMED_SENTENCES = """
import { Heard } from './streaming/heard.mjs';

const said = (text) => ({ text, sampleOffset: 0 });
const header = (more) => ({
  audioFormat: { audioEncoding: 'AUDIO_ENCODING_PCM' }, resumedSentenceCount: 0, firstSentenceIndex: 0,
  resumedFrameCount: 0, firstSampleOffset: 0, ...more,
});
const heard = new Heard(true);
heard.takeHeader(header());
heard.takeSentence(said('One.'));
heard.takeCheckpoint({ state: '1' });
heard.takeSentence(said('Two.'));
heard.beginAgain(); // behind the first sentence
heard.takeHeader(header({ resumedSentenceCount: 1, firstSentenceIndex: 1 }));
heard.takeSentence(said('Two.'));
heard.beginAgain(); // from the start
heard.takeHeader(header());
for (const text of ['One.', 'Two.', 'Three.']) heard.takeSentence(said(text));
const found = heard.sentences.map(({ text }) => text);
heard.beginAgain();
heard.takeHeader(header());
try {
  heard.takeSentence(said('Another.'));
} catch (error) {
  found.push(error.message);
}
console.log(JSON.stringify(found));
"""


def printed(program: str, node: Any, *arguments: str) -> Any:
    command = ["node", "--input-type=module", "--eval", program, *arguments]
    done = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_repeated_sentences_are_reported_once_and_other_sentences_end_the_stream(node: Any) -> None:
    *sentences, complaint = printed(RESUMED_SENTENCES, node)
    assert sentences == ["One.", "Two.", "Three."]
    assert "cuts the text into other sentences" in complaint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SynthesisStats", tts_pb2.SynthesisStats),
        ("Voice", tts_pb2.Voice),
        ("Sentence", tts_pb2.Sentence),
        ("SynthesizeResponse", tts_pb2.SynthesizeResponse),
        ("AudioFormat", tts_pb2.AudioFormat),
        ("KeptVoice", voices_pb2.KeptVoice),
        ("ServerInfo", tts_pb2.GetServerInfoResponse),
        ("SynthesisLimits", tts_pb2.SynthesisLimits),
        ("SamplingParams", tts_pb2.SamplingParams),
        ("WatermarkInfo", tts_pb2.WatermarkInfo),
        ("WatermarkSearch", watermark_pb2.DetectWatermarkResponse),
        ("WatermarkSearch", watermark_pb2.StreamDetectWatermarkResponse),
        ("WatermarkedStretch", watermark_pb2.WatermarkedStretch),
        ("TextPiece", tts_pb2.TextPiece),
    ],
)
def test_types_have_every_field_of_the_message(node: Any, name: str, message: Any) -> None:
    types = "".join((node.folder / file).read_text() for file in ("index.d.ts", "messages.d.ts"))
    (block,) = re.findall(rf"^export interface {name} {{\n(.*?)^}}", types, re.DOTALL | re.MULTILINE)
    typed = re.findall(r"^  (?:readonly )?(\w+)\??:", block, re.MULTILINE)
    assert sorted(typed) == sorted(field.json_name for field in message.DESCRIPTOR.fields)
