"""A text of the Node library may end its sentences itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.polyglot.node.library.programs import found
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

FLUSHED = """
const said = async (pieces) => {
  const stream = client.streamText(pieces);
  await heard(stream);
  return stream.sentences.map(({ text }) => text);
};
await tell(() => said(['How', { text: ' are you', flush: true }, 'Fine', { flush: true }, { text: 'And ' }, 'you?']));
const there = { text: '\\ude00 there', flush: true };
await tell(() => said([{ flush: true }, 'Hello \\ud83d', there, { flush: true }, 'Yes.']));
await tell(() => said((async function* () { yield { text: 'word '.repeat(300), flush: true }; yield 'Yes.'; }())));
"""


async def test_a_flush_ends_a_sentence_without_a_full_stop(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        first, second, long = await found(FLUSHED, node, tmp_path, running.target)
    assert first == ["How are you", "Fine", "And you?"]
    assert second == ["Hello \N{GRINNING FACE} there", "Yes."]
    assert "".join(long).count("word") == 300 and long[-1] == "Yes."
    assert sum(len(sentence) == 1000 for sentence in long) == 0  # a message's end is no sentence's


AGAIN = """
import { TextWriter } from './streaming/text.mjs';

const long = { text: 'a'.repeat(1001), flush: true };
const writer = new TextWriter(['How', { text: ' are you', flush: true }, long], true);
const written = [];
for (let call = 0; call < 2; call += 1) {
  const messages = [];
  await writer.writeTo({ write: ({ text }) => messages.push([text.text.length, text.flush]), end() {} });
  written.push(messages);
}
console.log(JSON.stringify(written));
"""


def test_flushes_are_repeated_to_another_server(node: Any) -> None:
    """Else it would cut other sentences. A long piece is flushed behind its last message."""
    command = ["node", "--input-type=module", "--eval", AGAIN]
    done = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [[[3, False], [8, True], [1000, False], [1, True]]] * 2


WRONG = """
for (const piece of [
  { text: 5 }, { flush: 'yes' }, { text: 'Hi.', flash: true }, { text: 'Hi \\ud83d', flush: true }, { text: '\\ude00' },
  ['Hi.'], Buffer.from('Hi.'), null, 5,
]) await tell(() => heard(client.streamText([piece])));
for (const pieces of [undefined, 5, { text: 'Hi.' }]) await tell(() => client.streamText(pieces));
"""


async def test_wrong_pieces_are_refused_by_name(node: Any, tmp_path: Path) -> None:
    async with fake_deployment() as running:
        told = await found(WRONG, node, tmp_path, running.target)
        assert running.engine.calls == []
    whole = "it must be a string of whole characters."
    assert told == [
        f"piece.text is 5; {whole}",
        "piece.flush is 'yes'; it must be true or false.",
        "There is no 'flash' in piece; there is text, flush.",
        "The text is flushed within a character.",
        f"A piece of the text is of type string; {whole}",
        *[f"A piece of the text is of type object; {whole}"] * 2,
        f"A piece of the text is null; {whole}",
        f"A piece of the text is 5; {whole}",
        *(f"pieces is {given}; it must be a string, or an iterable of pieces." for given in ("undefined", "5")),
        "pieces is of type object; it must be a string, or an iterable of pieces.",
    ]
