"""The Node library's types say what its code and the protos do: names, kinds, and what may be missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2
from google.protobuf import duration_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.polyglot.conftest import NODE_CLIENT
from tests.polyglot.node.library.programs import found

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(100)]

FILES = {name: (NODE_CLIENT / f"{name}.d.ts").read_text() for name in ("index", "messages", "failures")}
TYPES = "\n".join(FILES.values())

MESSAGES: dict[str, list[Any]] = {
    "ServerInfo": [tts_pb2.GetServerInfoResponse],
    "Duration": [duration_pb2.Duration],
    "WatermarkSearch": [watermark_pb2.DetectWatermarkResponse, watermark_pb2.StreamDetectWatermarkResponse],
}
# Of the protocol between client and gateway; nobody reads them.
LEFT_OUT = {
    "SynthesisHeader": {"resumedSentenceCount", "firstSentenceIndex", "resumedFrameCount", "firstSampleOffset"},
}
ALWAYS = {"audioFormat", "summary"}  # of messages that every server sets
LOOSE = {"object", "{ id: string; text: string }"}  # for messages
KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_ENUM: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


def fields_of(name: str) -> dict[str, tuple[bool, str]]:
    """Of an interface or class, those of what it extends included: whether it may be missing, and its type."""
    match = re.search(
        rf"export (?:interface|class) {name}\b(?: extends (\w+))?[^\n{{]* \{{\n(.*?)^\}}", TYPES, re.S | re.M
    )
    assert match is not None, name
    body = re.sub(r"/\*\*.*?\*/", "", match[2], flags=re.S)
    own = re.findall(r"^  (?:readonly |get )?(\w+)(?:\(\))?(\?)?: ([^;]*(?:\{[^}]*\})?[^;]*);$", body, re.M)
    inherited = fields_of(match[1]) if match[1] == "SpeechOptions" else {}
    return {**inherited, **{field: (mark == "?", kind) for field, mark, kind in own}}


def methods_of(name: str) -> set[str]:
    match = re.search(rf"export (?:interface|class) {name}[^{{]*\{{\n(.*?)^\}}", TYPES, re.S | re.M)
    assert match is not None
    return set(re.findall(r"^  (\w+)\(", match[1], re.M))


def kind_of(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        kind = {"Timestamp": "Duration"}.get(field.message_type.name, field.message_type.name)
    else:
        kind = KINDS.get(field.type, "number")
    return f"{kind}[]" if field.is_repeated else f"{kind} | null" if field.message_type is not None else kind


def typed(kind: str, field: FieldDescriptor) -> str:
    """The type of a field as `kind_of` names it."""
    if kind in ("Buffer", "Uint8Array"):
        return "bytes"
    is_loose = kind.removesuffix(" | null") in LOOSE and field.message_type is not None
    return kind_of(field) if is_loose and kind.endswith(" | null") else kind


def messages() -> list[tuple[str, Descriptor]]:
    names = re.findall(r"^export interface (\w+)", FILES["messages"], re.M)
    modules = (tts_pb2, voices_pb2, watermark_pb2)
    here = [(name, MESSAGES.get(name) or [getattr(m, name) for m in modules if hasattr(m, name)]) for name in names]
    return [(name, message.DESCRIPTOR) for name, known in here for message in known]


@pytest.mark.parametrize(("name", "message"), messages(), ids=lambda value: getattr(value, "full_name", value))
def test_messages_have_the_fields_of_the_protos(name: str, message: Descriptor) -> None:
    told, left_out = fields_of(name), LEFT_OUT.get(name, set())
    fields = {field.json_name: field for field in message.fields}
    assert set(told) == set(fields) - left_out
    for key, (may_miss, kind) in told.items():
        field = fields[key]
        expected = kind_of(field).removesuffix(" | null") if key in ALWAYS else kind_of(field)
        assert typed(kind, field) == expected, key
        assert may_miss == bool(field.containing_oneof), key


def test_every_message_is_compared() -> None:
    names = set(re.findall(r"^export interface (\w+)", FILES["messages"], re.M))
    assert len(names) >= 14 and names == {name for name, _ in messages()}


ASKED = """
const refused = async (work) => {
  try {
    await work();
  } catch (error) {
    found.push(error.message.match(/; (?:there is|it must be one of) (.*)\\.$/)[1].split(', '));
  }
};
const wrong = { none: 1 };
await refused(() => new Client(target, wrong));
await refused(() => client.synthesize('', wrong));
await refused(() => client.stream('', wrong));
await refused(() => client.stream('', { context: [wrong] }));
await refused(() => client.createVoice('ada', wrong));
await refused(() => client.createVoice('ada', { consent: wrong }));
await refused(() => client.streamText([wrong]).readAll());
await refused(() => client.stream('', { encoding: 'none' }));
const members = (value) => Object.getOwnPropertyNames(Object.getPrototypeOf(value)).sort();
found.push(members(client), members(client.stream('')), Object.keys(csm).sort());
const own = (error) => Object.getOwnPropertyNames(error).filter((name) => !['message', 'stack'].includes(name)).sort();
try {
  await client.serverInfo();
} catch (error) {
  const broken = new csm.IncompleteAudioError('', 0, error);
  const read = members(broken).filter((name) => name !== 'constructor');
  found.push(own(error), [...own(broken), ...read].sort(), Object.keys(details(error)).sort());
}
"""


async def test_options_methods_and_exports_are_those_of_the_code(node: Any, tmp_path: Path) -> None:
    told = iter(await found(ASKED, node, tmp_path, "127.0.0.1:1"))
    names = ["ConnectionOptions", "SpeechOptions", "StreamOptions", "Turn", "VoiceOptions"]
    for name in names:
        assert set(next(told)) == set(fields_of(name)), name
    consent = re.findall(r"(\w+): string", fields_of("VoiceOptions")["consent"][1])
    assert next(told) == consent
    assert set(next(told)) == set(fields_of("TextPiece"))
    assert set(next(told)) == set(re.findall(r"'(\w+)'", fields_of("SpeechOptions")["encoding"][1]))
    assert set(next(told)) == methods_of("Client")
    assert set(next(told)) - {"constructor"} == methods_of("SpeechStream") | set(fields_of("SpeechStream"))
    assert next(told) == sorted(re.findall(r"^export (?:class|function) (\w+)", TYPES, re.M))
    for name in ("ServerError", "IncompleteAudioError", "ErrorDetails"):
        assert set(next(told)) == set(fields_of(name)), name
