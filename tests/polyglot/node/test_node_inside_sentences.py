"""clients/node under the loss of a gateway within a sentence of a text: it goes on inside of the sentence."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import csm_client
import pytest

from tests.clients.python.lost_gateway import test_lost_gateway_texts as texts
from tests.clients.python.lost_gateway.test_lost_gateway import running_gateways
from tests.polyglot.node.test_node_lost_gateway import seconds_in
from tests.support.fake_stages import SAMPLE_RATE_HZ

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("held", "suffix"), [(0, "wav"), (1, "flac"), (2, "opus")])
async def test_a_text_resumes_inside_the_lost_sentence(tmp_path: Path, node: Any, held: int, suffix: str) -> None:
    async with running_gateways(tmp_path, seals=True) as gateways, asyncio.timeout(100):
        gateways.deployment.engine.frame_count = texts.FRAMES
        named = dataclasses.replace(node, out=tmp_path / f"speech.{suffix}")
        client = await asyncio.create_subprocess_exec(
            *named.command(gateways.target, "-", "--seed", "7"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert client.stdin is not None and client.stderr is not None
        client.stdin.write("".join(texts.PIECES).encode())
        client.stdin.close()
        heard = bytearray()

        async def listen(stderr: asyncio.StreamReader) -> None:
            while piece := await stderr.read(1000):
                heard.extend(piece)

        listening = asyncio.create_task(listen(client.stderr))
        await texts.lose_late(gateways, held, lambda: round(seconds_in(heard) * SAMPLE_RATE_HZ))
        await listening
        assert await client.wait() == 0, heard.decode()
        texts.check_resumes_inside(gateways, held)
        again = gateways.deployment.codec.calls[held + 1]
        assert bool(again.request.checkpoint) == (suffix != "opus")
        async with csm_client.AsyncClient(gateways.target) as other:
            encoding: Any = {"wav": "pcm"}.get(suffix, suffix)
            undisturbed = await other.stream_synthesize_text(
                ["".join(texts.PIECES)], seed=7, encoding=encoding
            ).read_all()
        assert named.out.read_bytes().endswith(undisturbed.samples)


FLAC_FROM_THE_START = """
import { Heard } from './streaming/heard.mjs';

const audio = (sampleOffset, text) => ({ audioContent: Buffer.from(text), sampleOffset, sampleCount: text.length });
const header = (encoding, more = {}) => ({
  modelVersion: '', seed: 7, voice: '', audioFormat: { audioEncoding: `AUDIO_ENCODING_${encoding}` },
  resumedSentenceCount: 0, firstSentenceIndex: 0, resumedFrameCount: 0, firstSampleOffset: 0, ...more,
});
const found = [];
for (const encoding of ['FLAC', 'PCM']) {
  const heard = new Heard(true);
  const tell = () => found.push([heard.states, heard.speechStates]);
  heard.takeHeader(header(encoding));
  heard.takeAudio(audio(0, 'ab'));
  heard.takeCheckpoint({ state: '1' });
  heard.takeAudio(audio(2, 'cd'));
  heard.takeSpeechCheckpoint({ state: 'a' });
  heard.takeAudio(audio(4, 'ef'));
  tell();
  heard.beginAgain(); // in the sentence
  heard.takeHeader(header(encoding,
    { resumedSentenceCount: 1, firstSentenceIndex: 1, resumedFrameCount: 3, firstSampleOffset: 4 }));
  heard.takeAudio(audio(4, 'efg'));
  tell();
  heard.beginAgain(); // before the sentence, at an older server
  heard.takeHeader(header(encoding, { resumedSentenceCount: 1, firstSentenceIndex: 1 }));
  heard.takeAudio(audio(2, 'cdefg'));
  tell();
  heard.beginAgain(); // from the start, at a server without the key
  heard.takeHeader(header(encoding));
  heard.takeAudio(audio(0, 'ab'));
  heard.takeCheckpoint({ state: 'new' });
  heard.takeAudio(audio(2, 'cdefgh'));
  heard.takeSpeechCheckpoint({ state: 'n' });
  tell();
  heard.takeCheckpoint({ state: '2' });
  tell();
  heard.beginAgain();
  try {
    heard.takeHeader(header(encoding, { resumedFrameCount: 3, firstSampleOffset: 4 }));
    found.push('taken');
  } catch (error) {
    found.push(error.message.includes('other checkpoints'));
  }
}
console.log(JSON.stringify(found));
"""


def test_checkpoints_of_a_text_are_kept_and_sent_as_the_python_client_does(node: Any) -> None:
    """FLAC made from its start: what lies behind the first sentence cannot be checked before the next one has ended."""
    command = ["node", "--input-type=module", "--eval", FLAC_FROM_THE_START]
    run = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=60, check=True)
    kept, before = [["1"], ["a"]], [["1"], []]
    assert json.loads(run.stdout) == [
        *(kept, kept, before, [[], []], [["new", "2"], []], True),
        *(kept, kept, before, [["new"], ["n"]], [["new", "2"], []], True),
    ]
