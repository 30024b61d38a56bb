"""The Node library's callers get something wrong: it is told, and does not pass for something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.python.test_wrong_use import EndlessList, endless
from tests.support.door import page_examples as pages
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]
__all__ = ["endless"]

START = """
import { Client } from '%s/index.mjs';

const target = process.argv[2];
const client = new Client(target, { deadlineSeconds: 20 });
const heard = async (stream) => {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  return bytes;
};
const found = [];
const tell = async (work) => {
  try {
    found.push(await work());
  } catch (error) {
    found.push(error instanceof TypeError ? error.message : [error.code, error.message]);
  }
};
"""
END = """
console.log(JSON.stringify(found));
client.close();
"""


async def found(program: str, node: Any, folder: Path, target: str) -> list[Any]:
    (folder / "program.mjs").write_text(START % node.folder + program + END)
    done = await pages.run(["timeout", "60", "node", "program.mjs", target], folder)
    assert done.returncode == 0, done.stderr
    values: list[Any] = json.loads(done.stdout)
    return values


WRONG_SPEECH = """
for (const speech of [
  { speaker: NaN }, { speaker: 1.5 }, { speaker: 2 ** 31 }, { speaker: '1' }, { topK: 0.5 }, { seed: NaN },
  { seed: '7' }, { seed: 2 ** 53 }, { seed: 2n ** 63n }, { temperature: 1e39 },
  { speed: 'fast' }, { maxSeconds: Infinity }, { encoding: 'opus' }, { sead: 7 },
  { voice: {} }, { returnCodes: 'no' }, { labels: { a: 1 } }, { context: {} }, { context: [null] },
  { context: [{ speaker: 0, text: 'A.', wav: Buffer.alloc(4) }] }, { context: [{ speaker: 'x', text: 'A.' }] },
  { context: [{ speaker: 0, text: 'A.', recording: Buffer.alloc(4), codes: {} }] }, null,
]) {
  await tell(() => client.synthesize('Hello.', speech));
  await tell(() => client.stream('Hello.', speech));
}
for (const text of [undefined, 5, Buffer.from('Hi.'), 'half \\ud83d']) await tell(() => client.stream(text));
for (const connection of [
  { tlsCA: 'ca.pem' }, { tls: 'no' }, { deadlineSeconds: 1e300 }, { resumes: NaN }, { token: 5 },
]) {
  await tell(() => new Client(target, connection));
}
await tell(() => new Client(''));
"""


async def test_values_that_would_be_converted_are_refused_by_name(node: Any, tmp_path: Path) -> None:
    """JavaScript makes 0 of NaN, and leaves out what it does not know: TLS too."""
    async with fake_deployment() as running:
        told = await found(WRONG_SPEECH, node, tmp_path, running.target)
        assert running.engine.calls == []
    speech, rest = told[:46], told[46:]
    names = [message.split(" is ")[0] for message in speech]
    assert names[::2] == names[1::2]
    assert names[::2] == [
        *(
            f"speech.{name}"
            for name in ["speaker"] * 4 + ["topK"] + ["seed"] * 4 + ["temperature", "speed", "maxSeconds", "encoding"]
        ),
        "There",
        *(f"speech.{name}" for name in ["voice", "returnCodes", "labels.a", "context", "context[0]"]),
        "There",
        "speech.context[0].speaker",
        "speech.context[0] has a recording and codes; give one of them.",
        "speech",
    ]
    assert rest[:4] == ["text is undefined; it must be a string of whole characters."] + [
        f"text is {given}; it must be a string of whole characters."
        for given in ("5", "of type object", "of type string")
    ]
    names = ["There", "connection.tls", "connection.deadlineSeconds", "connection.resumes", "connection.token"]
    assert [message.split(" is ")[0] for message in rest[4:-1]] == names
    assert rest[-1] == "target is ''; it must be the address of a server."


PIECES = """
await tell(() => heard(client.streamText(['Hello \\ud83d', '\\ude00 there', '.'])));
await tell(() => heard(client.streamText(['Hello. \\ud83d'])));
await tell(() => heard(client.streamText(['Hello. \\ude00', 'More.'])));
await tell(() => heard(client.streamText((function* () { yield 'Hello. '; throw undefined; }()))));
"""


async def test_pieces_may_split_a_surrogate_pair_and_must_complete_it(node: Any, tmp_path: Path) -> None:
    """A generator that throws nothing at all, which made the process spin, fails its stream too."""
    async with fake_deployment() as running:
        whole, *told = await found(PIECES, node, tmp_path, running.target)
        assert whole == 38_400 and running.engine.calls[0].request.segments[-1].text == "Hello \N{GRINNING FACE} there."
    assert told[0] == "The text ends within a character."
    assert told[1] == "A piece of the text is of type string; it must be a string of whole characters."
    assert told[2] == [None, "The pieces of the text threw nothing."]


TWICE = """
const stream = client.stream('Hello.');
await tell(() => heard(stream));
await tell(() => heard(stream));
"""


async def test_a_stream_can_be_read_once(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        bytes_heard, message = await found(TWICE, node, tmp_path, running.target)
        assert bytes_heard == 38_400 and "iterated over once" in message
        assert len(running.engine.calls) == 1


LIST = """
const impatient = new Client(target, { deadlineSeconds: 0.5 });
await tell(() => impatient.listVoices());
impatient.close();
"""


async def test_one_deadline_covers_all_pages_of_voices(
    node: Any, tmp_path: Path, endless: tuple[EndlessList, str]
) -> None:
    ((code, _),) = await found(LIST, node, tmp_path, endless[1])
    assert code == 4  # DEADLINE_EXCEEDED
