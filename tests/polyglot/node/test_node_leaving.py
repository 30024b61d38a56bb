"""The Node library's calls that are left early, or whose text breaks off: they end, and say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.door import page_examples as pages
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

BROKEN_TEXTS = """
import { Client } from '%s/index.mjs';

function* plain() {
  yield 'Hello. ';
  throw new Error('the text broke off');
}

async function* later() {
  yield* plain();
}

const client = new Client(process.argv[2]);
for (const pieces of [plain(), later(), ['Hello. ', undefined, 'Not said.']]) {
  try {
    for await (const _ of client.streamText(pieces)) { /* what comes is dropped */ }
    console.log('heard all');
  } catch (error) {
    console.log(error.message);
  }
}
client.close();
"""

ENDLESS = """
import { Client } from '%s/index.mjs';

let taken = 0;
function* endless() {
  for (;;) {
    taken += 1;
    yield 'One more sentence. ';
  }
}

const client = new Client(process.argv[2]);
const stream = client.streamText(endless(), { maxSeconds: 8 });
for await (const _ of stream) { /* what comes is dropped */ }
console.log(stream.summary.finishReason);
console.log(taken);
client.close();
"""

CANCELLED = """
import { Client } from '%s/index.mjs';

const client = new Client(process.argv[2]);
const stream = client.stream('Hello.');
stream.cancel();
try {
  for await (const _ of stream) console.log('heard some');
  console.log('heard all');
} catch (error) {
  console.log(error.code);
}
client.close();
"""


LEFT_TEXT = """
import { Client } from '%s/index.mjs';

async function* waiting() {
  try {
    yield 'Hello. How are you?';
    for (;;) yield 'One more. ';
  } finally {
    console.log('the pieces have ended');
  }
}

const client = new Client(process.argv[2]);
for await (const _ of client.streamText(waiting())) break;
client.close();
"""

UNHEARD = """
import { Client } from '%s/index.mjs';

let taken = 0;
async function* endless() {
  try {
    for (; ; await new Promise((resolve) => setTimeout(resolve, 10))) {
      taken += 1;
      yield 'Hello. ';
    }
  } finally {
    console.log('the pieces have ended');
  }
}

const client = new Client(process.argv[2]);
const stream = client.streamText(endless());
await stream[Symbol.asyncIterator]().next();
stream.cancel(); // and nobody asks for more audio
const before = taken;
await new Promise((resolve) => setTimeout(resolve, 1000));
console.log(taken - before < 5);
client.close();
"""

SLOPPY = """
import { Client } from '%s/index.mjs';

function* untidy() {
  try {
    for (;;) yield 'Hello. ';
  } finally {
    throw new Error('nothing to clear up');
  }
}

const client = new Client(process.argv[2]);
for await (const _ of client.streamText(untidy())) break;
console.log('left');
client.close();
"""


async def printed(program: str, node: Any, folder: Path) -> tuple[list[str], int]:
    """The lines of a program, and how many calls the engine got from it."""
    (folder / "program.mjs").write_text(program % node.folder)
    async with fake_deployment() as running:
        done = await pages.run(["timeout", "20", "node", "program.mjs", running.target], folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), len(running.engine.calls)


async def test_an_exception_of_the_text_ends_its_stream(node: Any, tmp_path: Path) -> None:
    """Also one of a plain generator, whose error is there before anything is waited for."""
    (plain, later, undefined), _ = await printed(BROKEN_TEXTS, node, tmp_path)
    assert plain == later == "the text broke off"
    assert "undefined" in undefined


async def test_a_stream_cancelled_before_it_is_read_makes_no_call(node: Any, tmp_path: Path) -> None:
    lines, engine_calls = await printed(CANCELLED, node, tmp_path)
    assert (lines, engine_calls) == (["1"], 0)  # CANCELLED


async def test_a_text_is_read_no_faster_than_the_server_takes_it(node: Any, tmp_path: Path) -> None:
    """The whole of it would lie in the client's memory, or never be there."""
    (reason, taken), _ = await printed(ENDLESS, node, tmp_path)
    assert reason == "FINISH_REASON_MAX_AUDIO_DURATION"
    assert int(taken) < 200_000  # some megabytes are on their way


async def test_closing_a_stream_ends_its_pieces(node: Any, tmp_path: Path) -> None:
    lines, _ = await printed(LEFT_TEXT, node, tmp_path)
    assert lines == ["the pieces have ended"]


async def test_a_cancelled_unread_stream_reads_no_more_of_its_text(node: Any, tmp_path: Path) -> None:
    """The pieces were taken for ever, and a language model paid for."""
    lines, _ = await printed(UNHEARD, node, tmp_path)
    assert lines == ["the pieces have ended", "true"]


async def test_an_exception_on_closing_the_pieces_does_not_hide_the_stream_s_result(node: Any, tmp_path: Path) -> None:
    """Of an asynchronous generator it was dropped, of a plain one thrown."""
    lines, _ = await printed(SLOPPY, node, tmp_path)
    assert lines == ["left"]
