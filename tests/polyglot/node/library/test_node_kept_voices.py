"""The Node library keeps voices as the Python clients do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from csm.rvq.v1 import rvq_pb2
from csm.v1 import voices_pb2, voices_pb2_grpc
from csm_client import Consent
from csm_client.requests import create_voice_request

from tests.polyglot.node.library.programs import found
from tests.services.gateway.voices.callers import deployment_with_tokens, wav

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

KEEPS = """
const [shop, radio, tv] = ['shop', 'radio', 'tv'].map((name) => new Client(target, { token: `token-of-${name}` }));
const consent = { id: 'contract 17', text: 'She agrees.' };
const recording = readFileSync('carol.wav');
const prompt = { recording, text: 'Words.', consent };
const made = await shop.createVoice('carol', {
  ...prompt, speaker: 1, languages: ['en'], description: 'Calm.', seed: 7, callers: ['radio'],
});
found.push(made, isDeepStrictEqual(made, await shop.getVoice('carol')), await radio.getVoice('carol'));
for (const each of [shop, tv]) found.push((await each.listVoices()).map(({ name }) => name));
const stream = radio.stream('Hello.', { voice: 'carol' });
await heard(stream);
found.push(stream.header.voice);

await tell(() => shop.createVoice('carol', prompt));
await tell(() => shop.createVoice('dora', { recording, text: 'Words.' }));
await tell(() => tv.getVoice('carol'));
await tell(() => radio.deleteVoice('carol'));
await tell(() => tv.synthesize('Hello.', { voice: 'carol' }));

await tell(() => shop.deleteVoice('carol'));
found.push((await shop.listVoices()).map(({ name }) => name));
await tell(() => shop.synthesize('Hello.', { voice: 'carol' }));
for (const each of [shop, radio, tv]) each.close();
"""


async def test_a_voice_is_made_used_by_whom_it_is_for_and_deleted(node: Any, tmp_path: Path) -> None:
    """At a real gateway, which keeps it in SQLite."""
    (tmp_path / "carol.wav").write_bytes(wav())
    async with deployment_with_tokens(tmp_path) as running:
        told = await found(KEEPS, node, tmp_path, running.target)
        (request,) = (call.request for call in running.engine.calls)
    made, is_same, for_radio, of_shop, of_tv, heard, *rest = told
    assert made["voice"]["name"] == "carol" and made["voice"]["speaker"] == 1 and made["voice"]["seed"] == 7
    assert made["voice"]["languageCodes"] == ["en"] and made["voice"]["hasPrompt"]
    assert (made["owner"], made["audience"], made["callers"]) == ("shop", "VOICE_AUDIENCE_CALLERS", ["radio"])
    assert made["consent"] == {"id": "contract 17", "text": "She agrees."} and made["promptText"] == "Words."
    assert made["promptLevelDb"] == -20 and made["promptDuration"] == {"seconds": 0, "nanos": 240_000_000}
    assert made["createTime"]["seconds"] > 1.7e9 and is_same
    assert for_radio["consent"] is None and for_radio["promptText"] == ""
    assert of_shop == ["ada", "bo", "carol"] and of_tv == ["ada", "bo"]
    assert heard == "carol" and request.segments[0].text == "Words." and request.sampling_params.seed == 7
    exists, no_consent, unknown, not_its_owner, unheard, deleted, left, gone = rest
    assert [exists[0], no_consent[0]] == ["VOICE_EXISTS", "NO_CONSENT"]
    assert {reason for reason, _ in (unknown, unheard, gone)} == {"VOICE_NOT_FOUND"} and "'carol'" in unknown[1]
    assert "owner" in not_its_owner[1]
    assert deleted is None and left == ["ada", "bo"]


class Recorder(voices_pb2_grpc.VoiceServiceServicer):
    """Keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[voices_pb2.CreateVoiceRequest] = []

    async def CreateVoice(self, request: Any, context: Any) -> voices_pb2.CreateVoiceResponse:
        self.requests.append(request)
        return voices_pb2.CreateVoiceResponse(voice=voices_pb2.KeptVoice(owner="you"))


REQUESTS = """
const codes = { codes: Buffer.from([1, 0]), codebookCount: 1, frameCount: 1, firstFrameIndex: 0 };
const consent = { id: '17', text: 'Yes.' };
for (const voice of [
  { seed: 2n ** 62n },
  { seed: 0, everyone: true, languages: ['en', 'de'], description: 'Calm.', speaker: 3 },
  { text: 'Words.', recording: Buffer.from('OggS...'), consent, callers: ['shop', 'radio'] },
  { text: 'Words.', codes, sealedCodes: Buffer.alloc(0), consent },
  { text: 'Words.', codes: null, sealedCodes: Buffer.from('sealed'), consent },
]) await tell(async () => (await client.createVoice('carol', voice)).owner);
"""


async def test_every_option_reaches_the_server_as_from_python(node: Any, tmp_path: Path, listen: Any) -> None:
    recorder = Recorder()
    target = await listen(voices_pb2_grpc.add_VoiceServiceServicer_to_server, recorder)
    assert await found(REQUESTS, node, tmp_path, target) == ["you"] * 5
    codes = rvq_pb2.CodeFrames(codes=b"\1\0", codebook_count=1, frame_count=1)
    consent = Consent("17", "Yes.")
    expected: list[Any] = [
        {"seed": 2**62},
        {"seed": 0, "everyone": True, "languages": ["en", "de"], "description": "Calm.", "speaker": 3},
        {"text": "Words.", "audio": b"OggS...", "consent": consent, "callers": ["shop", "radio"]},
        {"text": "Words.", "codes": codes, "consent": consent},
        {"text": "Words.", "codes": b"sealed", "consent": consent},
    ]
    assert recorder.requests == [create_voice_request("carol", options) for options in expected]


WRONG = """
for (const voice of [
  { seed: '7' }, { seed: 2n ** 63n }, { speaker: 1.5 }, { recording: 'ada.wav' }, { consent: 'yes' },
  { consent: { id: 17, text: 'Yes.' } }, { consent: { number: '17' } }, { languages: 'en' }, { languages: ['en', 1] },
  { callers: [null] }, { everyone: 'yes' }, { audio: Buffer.alloc(4) }, { callers: ['shop'], everyone: true },
  { recording: Buffer.alloc(4), sealedCodes: Buffer.alloc(4) }, null,
]) await tell(() => client.createVoice('carol', voice));
await tell(() => client.createVoice());
await tell(() => client.getVoice(7));
await tell(() => client.deleteVoice());
"""


async def test_wrong_values_are_refused_by_name_and_nothing_is_sent(node: Any, tmp_path: Path, listen: Any) -> None:
    recorder = Recorder()
    target = await listen(voices_pb2_grpc.add_VoiceServiceServicer_to_server, recorder)
    told = await found(WRONG, node, tmp_path, target)
    assert recorder.requests == []
    assert told == [
        "voice.seed is '7'; it must be a whole number of 64 bits, from 2^53 on a BigInt.",
        f"voice.seed is {2**63}; it must be a whole number of 64 bits, from 2^53 on a BigInt.",
        "voice.speaker is 1.5; it must be a whole number of 32 bits.",
        "voice.recording is 'ada.wav'; it must be a Uint8Array.",
        "voice.consent is 'yes'; it must be an object.",
        "voice.consent.id is 17; it must be a string of whole characters.",
        "There is no 'number' in voice.consent; there is id, text.",
        "voice.languages is 'en'; it must be an array.",
        "voice.languages[1] is 1; it must be a string of whole characters.",
        "voice.callers[0] is null; it must be a string of whole characters.",
        "voice.everyone is 'yes'; it must be true or false.",
        "There is no 'audio' in voice; there is text, recording, sealedCodes, codes, consent, speaker, languages,"
        " description, seed, callers, everyone.",
        "A voice is for some callers or for everyone, not both.",
        "voice has a recording and codes; give one of them.",
        "voice is null; it must be an object.",
        "name is undefined; it must be a string of whole characters.",
        "name is 7; it must be a string of whole characters.",
        "name is undefined; it must be a string of whole characters.",
    ]


INFO = "await tell(() => client.serverInfo());"


async def test_server_info_reports_model_and_limits(node: Any, tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path) as running:
        program = INFO.replace("client", "new Client(target, { token: 'token-of-shop' })")
        (info,) = await found(program, node, tmp_path, running.target)
    assert (info["modelVersion"], info["naturalSampleRateHertz"]) == ("fake/1", 24_000)
    assert "AUDIO_ENCODING_MP3" in info["audioEncodings"] and info["limits"]["maxTextLength"] > 0
    assert info["limits"]["maxUnaryAudioDuration"]["seconds"] == 80
