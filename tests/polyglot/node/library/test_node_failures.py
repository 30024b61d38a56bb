"""What the Node library throws: a class for each kind of failure, with what the server tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import csm_client
import pytest

from csm_bundle.errors import EngineBusyError
from tests.polyglot.node.library.programs import found
from tests.polyglot.node.library.scripted import FRAMES, scripted
from tests.support.fake_deployment import fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

KINDS = """
const tellFailure = async (work) => {
  try {
    found.push(await work());
  } catch (error) {
    const { name, code, reason, fieldViolations, retryDelaySeconds, requestId } = error;
    const kinds = Object.keys(csm).filter((key) => key.endsWith('Error') && error instanceof csm[key]).sort();
    const isAlike = error.stack.startsWith(`${name}: ${error.message}`) && details(error).requestId === requestId;
    found.push([kinds, name, code, reason, fieldViolations?.[0]?.field, retryDelaySeconds, isAlike]);
  }
};
"""

REFUSED = f"""{KINDS}
await tellFailure(() => client.synthesize(''));
await tellFailure(() => client.stream('').readAll());
await tellFailure(() => client.synthesize('Hello.'));
await tellFailure(() => client.getVoice('nobody'));
await tellFailure(() => new Client('127.0.0.1:1').serverInfo());
const impatient = new Client(target, {{ deadlineSeconds: 0.000001 }});
await tellFailure(() => impatient.serverInfo());
await tellFailure(async () => new Client(target, {{ tlsCa: 'missing.pem' }}));
await tellFailure(async () => new Client('example.com:1', {{ token: 'secret' }}));
await tellFailure(async () => new Client('example.com:1', {{ tokenFile: 'missing' }}));
"""


def of_server(name: str, code: int, reason: str, field: str | None = None, delay_s: float | None = None) -> list[Any]:
    return [sorted([name, "CsmClientError", "ServerError"]), name, code, reason, field, delay_s, True]


async def test_each_kind_of_failure_has_a_class_with_the_server_s_details(node: Any, tmp_path: Path) -> None:
    """Names and reasons are those of the Python client."""
    async with fake_deployment() as running:
        running.engine.refusal = EngineBusyError("full")
        told = await found(REFUSED, node, tmp_path, running.target)
    empty = of_server("InvalidRequestError", 3, "TEXT_EMPTY", "input.text")
    off = ["CsmClientError", "ServerError"]
    assert told[:2] == [empty, empty]
    assert told[2] == of_server("UnavailableError", 14, "QUEUE_FULL", delay_s=1)
    assert told[3][0] == off or told[3] == of_server("NotFoundError", 5, "VOICE_NOT_FOUND")
    assert told[4] == of_server("UnavailableError", 14, "UNAVAILABLE")
    assert told[5] == of_server("DeadlineExceededError", 4, "DEADLINE_EXCEEDED")
    assert [failure[:2] for failure in told[6:]] == [
        [["CsmClientError", "TlsFileError"], "TlsFileError"],
        [["CsmClientError", "TokenError"], "TokenError"],
        [["CsmClientError", "TokenError"], "TokenError"],
    ]


NAMES = "found.push(Object.keys(csm).filter((name) => name.endsWith('Error')));"


async def test_the_classes_are_those_of_the_python_client(node: Any, tmp_path: Path) -> None:
    (names,) = await found(NAMES, node, tmp_path, "127.0.0.1:1")
    of_files_and_players = {f"{what}Error" for what in ("ContextFile", "OutputFile", "RecordingFile", "InputText")}
    of_files_and_players |= {"PlayerError", "SpeakerError"}
    assert set(names) == {name for name in csm_client.__all__ if name.endswith("Error")} - of_files_and_players


BROKEN = """
const tellBroken = async (text, options) => {
  const broken = new Client(target, { deadlineSeconds: 2, ...options });
  try {
    await broken.stream(text).readAll();
  } catch (error) {
    const { name, message, code, reason, receivedSampleCount, cause } = error;
    found.push([name, message, code, reason, receivedSampleCount / 1920, cause?.name, csm.explain(error).length]);
  }
  broken.close();
};
await tellBroken('lost', { resumes: 0 });
await tellBroken('lost once');
for (const text of ['no header', 'two headers', 'after the summary']) await tellBroken(text);
await tell(() => client.synthesize('garbled'));
"""


async def test_incomplete_audio_is_an_error_with_its_cause(node: Any, tmp_path: Path) -> None:
    """Audio that came after a loss makes a later deadline what ended the stream; the loss was told."""
    async with scripted() as gateway:
        lost, late, *disordered, garbled = await found(BROKEN, node, tmp_path, gateway.target)
    assert gateway.calls["lost"] == 1 and gateway.calls["lost once"] == 2
    told = "The audio is incomplete. "
    name = "IncompleteAudioError"
    assert lost == [name, f"{told}the gateway was lost", 14, "UNAVAILABLE", 1, "UnavailableError", 3 - 1]
    assert [late[0], *late[2:6]] == [name, 4, "DEADLINE_EXCEEDED", 3, "DeadlineExceededError"]
    for (kind, message, *_), event in zip(disordered, ["audioChunk", "header", "audioChunk"], strict=True):
        assert (kind, message) == (name, f"{told}The server sent '{event}' out of order.")
    assert [failure[4] for failure in disordered] == [0, 0, FRAMES]
    assert garbled == [None, "14 UNAVAILABLE: garbled"]  # details that cannot be read do not hide it


WHOLE = """
const { audioContent, summary, ...rest } = await client.stream('Hello.').readAll();
const { voice, seed, audioFormat } = rest;
found.push([audioContent.length / 2 / 1920, summary.finishReason, voice, seed, audioFormat.channelCount]);
found.push(Object.keys(await client.synthesize('Hello.')).sort());
found.push(['audioContent', 'summary', ...Object.keys(rest)].sort());
const stream = client.stream('Hello.');
for await (const _ of stream) break;
await tell(() => stream.readAll());
"""


async def test_a_collected_stream_equals_synthesize(node: Any, tmp_path: Path) -> None:
    async with scripted() as gateway:
        whole, unary, streamed, again = await found(WHOLE, node, tmp_path, gateway.target)
    assert whole == [FRAMES, "FINISH_REASON_END_OF_SPEECH", "ada", 7, 1]
    assert unary == streamed
    assert "iterated over once" in again
