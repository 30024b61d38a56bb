"""Voices that callers create, over HTTP."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2

from tests.services.gateway.voices.test_files import write_voice
from tests.support.door.fake_door import FakeDoor, fake_door, left_in_search
from tests.support.fake_stages import fake_frames
from tests.support.wav import wav_of

VOICES = "/v1/audio/voices"
CODES = base64.b64encode(fake_frames(0, 30).SerializeToString()).decode()  # of an answer


def recording(seconds: float = 2.0) -> str:
    """A whole WAV file in base64."""
    return base64.b64encode(wav_of(struct.pack("<2h", 4000, -4000) * int(12_000 * seconds))).decode()


@pytest.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[FakeDoor]:
    """A door in front of a gateway with a voices' database."""
    async with fake_door({"voices_database": str(tmp_path / "voices.sqlite")}) as door:
        door.behind.codec.detection = codec_pb2.DetectWatermarkResponse()
        yield door


@pytest.fixture
def voice() -> dict[str, Any]:
    consent = {"id": "contract 17", "text": "Eve agreed."}
    return {"name": "eve", "text": "What is said.", "audio": recording(), "consent": consent, "speaker": 1}


async def test_voice_is_kept_used_shown_and_deleted(keeping: FakeDoor, voice: dict[str, Any]) -> None:
    made = await keeping.client.post(VOICES, json=voice | {"languages": ["en"], "seed": 7})
    assert made.status_code == 201, made.text
    assert made.json()["prompt_seconds"] == 0.24 and made.json()["audience"] == "owner"
    (listed,) = [one for one in (await keeping.client.get(VOICES)).json()["data"] if one["name"] == "eve"]
    assert (listed["has_prompt"], listed["seed"], listed["speaker"], listed["languages"]) == (True, 7, 1, ["en"])
    shown = (await keeping.client.get(f"{VOICES}/eve")).json()
    assert shown == made.json() and shown["consent"] == voice["consent"]
    body = {"input": "Hello.", "voice": "eve", "response_format": "pcm"}
    spoken = await keeping.client.post("/v1/audio/speech", json=body)
    assert (spoken.headers["x-voice"], spoken.headers["x-seed"]) == ("eve", "7")
    assert (await keeping.client.delete(f"{VOICES}/eve")).status_code == 204
    gone = await keeping.client.post("/v1/audio/speech", json=body)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "voice_not_found")


async def test_prompt_of_the_operator_has_no_length(tmp_path: Path) -> None:
    write_voice(tmp_path, "dave")
    async with fake_door({"voices_folder": tmp_path}) as door:
        shown = (await door.client.get(f"{VOICES}/dave")).json()
        assert (shown["has_prompt"], shown["prompt_seconds"], shown["owner"]) == (True, None, "")


async def test_a_disconnect_makes_no_voice(keeping: FakeDoor, voice: dict[str, Any]) -> None:
    call = await left_in_search(keeping, VOICES, json=voice)
    assert call.error == "CancelledError"
    assert (await keeping.client.get(f"{VOICES}/eve")).status_code == 404


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"name": "no name"}, "name", "voice_name_invalid"),
        ({"name": "ada"}, "name", "voice_exists"),
        ({"text": ""}, "text", "text_empty"),
        ({"audio": recording(0.5)}, "audio", "prompt_too_short"),
        ({"audio": "?"}, "audio", "invalid_value"),
        ({"codes": "AAAA"}, "codes", "invalid_value"),
        ({"audio": None, "codes": CODES}, "codes", "prompt_is_own_output"),
        ({"consent": None}, "consent.id", "no_consent"),
        ({"consent": {"id": "", "text": "x"}}, "consent.id", "no_consent"),
        ({"callers": ["shop"], "everyone": True}, "callers", "invalid_value"),
        ({"languages": ["??"]}, "languages", "request_invalid"),
        ({"colour": "blue"}, "colour", "unknown_parameter"),
    ],
)
async def test_wrong_voice_names_the_field(
    keeping: FakeDoor, voice: dict[str, Any], change: dict[str, Any], param: str, code: str
) -> None:
    answer = await keeping.client.post(VOICES, json=voice | change)
    error = answer.json()["error"]
    assert answer.status_code in (400, 409) and error["param"] == param, answer.text
    assert error["code"] == code or code == "request_invalid"


async def test_a_server_without_a_database_refuses_voices_with_the_reason(
    door: FakeDoor, voice: dict[str, Any]
) -> None:
    answer = await door.client.post(VOICES, json=voice)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "voices_off")
    assert (await door.client.delete(f"{VOICES}/eve")).json()["error"]["code"] == "voices_off"
    assert (await door.client.get(f"{VOICES}/nobody")).status_code == 404
