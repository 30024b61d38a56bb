"""The Node library's conversations so far: recordings of any bytes and of every format that its types allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import open_encoder
from tests.support.door import page_examples as pages
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

PROGRAM = """
import { readFileSync } from 'node:fs';
import { Client } from '%s/index.mjs';

const [target, file] = process.argv.slice(2);
const recording = new Uint8Array(readFileSync(file));
const client = new Client(target);
await client.synthesize('Yes.', { context: [{ speaker: 0, text: 'Before.', recording }] });
client.close();
"""


async def test_ogg_opus_that_is_no_buffer_is_sent_as_ogg_opus(node: Any, tmp_path: Path) -> None:
    encoder = open_encoder(tts_pb2.AUDIO_ENCODING_OGG_OPUS, 24_000, 24_000, serial=1)
    (tmp_path / "before.ogg").write_bytes(encoder.push(bytes(2 * 24_000)).content + encoder.finish().content)
    (tmp_path / "program.mjs").write_text(PROGRAM % node.folder)
    async with fake_deployment() as running:
        done = await pages.run(["node", "program.mjs", running.target, "before.ogg"], tmp_path)
        assert done.returncode == 0, done.stderr
        (encoded,) = running.codec.encoded
        assert encoded.sample_rate_hertz == 48_000  # as Opus is decoded
