"""The Node library at the real stages, on a bundle of random weights: a kept voice, and the mark in its speech."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.polyglot.node.library.programs import found
from tests.services.all_in_one.test_kept_voices import noise, start
from tests.support.tiny.bundle import write_tiny_bundle

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(500)]

SPEAKS = """
const consent = { id: 'none needed', text: 'It is noise.' };
const recording = readFileSync('frank.wav');
await client.createVoice('frank', { recording, text: 'Noise.', consent });
const names = async () => (await client.listVoices()).map(({ name }) => name);
found.push(await names());
const stream = client.stream('A long story.', { voice: 'frank', maxSeconds: 5, seed: 3 });
const spoken = wav(await heard(stream), stream.header.audioFormat);
const { keyId } = stream.summary.watermark;
found.push(stream.header.voice);

const pieces = function* () { for (let at = 0; at < spoken.length; at += 1000) yield spoken.subarray(at, at + 1000); };
for (const answer of [await client.detectWatermark(spoken), await client.findWatermarks(pieces(), [keyId])]) {
  found.push([answer.detected, answer.keyId === keyId, answer.stretches.length > 0]);
}
await tell(async () => (await client.detectWatermark(recording)).detected);
await tell(() => client.detectWatermark(spoken, ['another']));
await tell(() => client.findWatermarks(pieces(), ['another']));
await tell(() => client.createVoice('dave', { recording: spoken, text: 'A long story.', consent }));
await tell(() => heard(client.stream('Hello.', { voice: 'dave' })));
await client.deleteVoice('frank');
found.push(await names());
await tell(() => heard(client.stream('Hello.', { voice: 'frank' })));
found.push((await client.serverInfo()).watermark.keyId === keyId);
"""


async def test_a_voice_is_kept_and_spoken_with_and_its_speech_is_known_by_its_mark(node: Any, tmp_path: Path) -> None:
    (tmp_path / "frank.wav").write_bytes(noise())
    write_tiny_bundle(tmp_path / "bundle")
    async with AsyncExitStack() as stack:
        _, port = await start(stack, tmp_path / "bundle", tmp_path / "keys.json", tmp_path)
        told = await found(SPEAKS, node, tmp_path, f"127.0.0.1:{port}")
        assert (tmp_path / "voices.sqlite").exists()
    before, voice, *searches = told[:4]
    assert before == ["speaker-0", "speaker-1", "frank"] and voice == "frank"
    assert searches == [[True, True, True]] * 2
    unmarked, *refused, own, no_dave, after, no_frank, has_key = told[4:]
    assert unmarked is False and has_key
    for reason, message in refused:
        assert reason == "WATERMARK_KEY_NOT_FOUND" and "another" in message
    assert own[0] == "PROMPT_IS_OWN_OUTPUT"
    assert after == ["speaker-0", "speaker-1"]
    assert [reason for reason, _ in (no_dave, no_frank)] == ["VOICE_NOT_FOUND"] * 2 and "'frank'" in no_frank[1]
