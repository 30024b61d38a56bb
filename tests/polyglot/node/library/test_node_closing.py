"""The Node library's client is closed: what runs ends at once and says so, and nothing more begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.polyglot.node.library.programs import found
from tests.polyglot.node.library.scripted import scripted

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

TELL_CLASS = """
const tellClass = (work) => tell(() => work().then(() => 'no error', (error) => error.constructor.name));
"""

AFTER = f"""{TELL_CLASS}
let returned = 0;
const pieces = {{ [Symbol.asyncIterator]: () => ({{
  next: () => new Promise(() => {{}}), return: async () => {{ returned += 1; }},
}}) }};
const closed = new Client(target);
closed.close();
closed.close();
for (const call of [
  () => closed.synthesize('Hi.'), () => heard(closed.stream('Hi.')), () => closed.stream('Hi.').readAll(),
  () => heard(closed.streamText(pieces)),
  () => closed.listVoices(), () => closed.createVoice('ada', {{ seed: 7 }}), () => closed.getVoice('ada'),
  () => closed.deleteVoice('ada'), () => closed.detectWatermark(Buffer.from('RIFF')),
  () => closed.findWatermarks(Buffer.from('RIFF')), () => closed.serverInfo(),
]) await tellClass(call);
found.push(returned);
"""

WHILE = f"""{TELL_CLASS}
const closedSoon = async (work) => {{
  const closing = new Client(target, {{ deadlineSeconds: 60, resumes: 10 }});
  const working = work(closing);
  working.catch(() => {{}});
  await sleep(1);
  const at = Date.now();
  closing.close();
  await tellClass(() => working);
  found.push(Date.now() - at < 900); // gRPC ends calls of a closed channel after up to 2 s
}};
async function* endless() {{
  for (;; await sleep(0.05)) yield 'word ';
}}
await closedSoon((closing) => closing.synthesize('stall'));
await closedSoon((closing) => heard(closing.stream('stall')));
await closedSoon((closing) => heard(closing.streamText(endless())));
await closedSoon((closing) => closing.stream('lost', {{ seed: 7 }}).readAll()); // it waits for another server
"""


async def test_every_call_of_a_closed_client_says_that_it_is_closed(node: Any, tmp_path: Path) -> None:
    """`findWatermarks` failed with a TypeError of its own. Pieces that are not taken are told so."""
    async with scripted() as gateway:
        told = await found(AFTER, node, tmp_path, gateway.target)
    assert told == ["ClientClosedError"] * 11 + [1]
    assert not gateway.calls


async def test_closing_a_client_ends_its_running_calls_at_once(node: Any, tmp_path: Path) -> None:
    """A call was ended by gRPC up to 2 s later, or went through, by chance."""
    async with scripted() as gateway:
        told = await found(WHILE, node, tmp_path, gateway.target)
    assert told == ["ClientClosedError", True] * 4


ABORTED = """
const speech = (ms) => ({ signal: AbortSignal.timeout(ms) });
const tellReason = async (work) => {
  const at = Date.now();
  await tell(() => work().then(() => 'no error', (error) => [error.name, Date.now() - at < 3000]));
};
const patient = new Client(target, { deadlineSeconds: 60, resumes: 10 });
let ended = false;
async function* endless() {
  try {
    for (;; await sleep(0.05)) yield 'word ';
  } finally {
    ended = true;
  }
}
await tellReason(() => patient.synthesize('stall', speech(500)));
await tellReason(() => heard(patient.stream('stall', speech(500))));
await tellReason(() => patient.stream('lost', speech(1000)).readAll()); // it waits for another server
await tellReason(() => heard(patient.streamText(endless(), speech(500))));
const over = { signal: AbortSignal.abort(new RangeError('over')) };
await tellReason(() => patient.synthesize('never', over));
await tellReason(() => heard(patient.stream('never', over)));
const { signal } = new AbortController();
for (let count = 0; count < 20; count += 1) await patient.synthesize('Hello.', { signal });
await tell(async () => (await patient.stream('Hello.', { signal }).readAll()).voice);
await tell(() => client.synthesize('', { signal: 5 }));
found.push(ended);
patient.close();
"""


async def test_a_signal_ends_a_synthesis_with_its_reason(node: Any, tmp_path: Path) -> None:
    async with scripted() as gateway:
        told = await found(ABORTED, node, tmp_path, gateway.target)
    assert told[:4] == [["TimeoutError", True]] * 4
    assert told[4:6] == [["RangeError", True]] * 2 and gateway.calls["never"] == 0
    assert told[6:] == ["ada", "speech.signal is 5; it must be an AbortSignal.", True]
