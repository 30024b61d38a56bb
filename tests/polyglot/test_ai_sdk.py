"""Vercel's AI SDK against the HTTP door. Its packages come from `npm ci` in tests/polyglot/ai_sdk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.fake_deployment import ended
from tests.support.waits import eventually

FOLDER = Path(__file__).parent / "ai_sdk"

pytestmark = pytest.mark.polyglot


async def printed(door: FakeDoor, *arguments: str) -> dict[str, Any]:
    """What ai_sdk/speech.mjs prints."""
    if not (FOLDER / "node_modules" / "ai").is_dir():
        pytest.fail("tests/polyglot/ai_sdk has no packages; run `npm ci` there.")
    command = ["node", str(FOLDER / "speech.mjs"), door.url, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


async def test_ai_sdk_speaks_in_every_format_and_has_typed_errors() -> None:
    async with fake_door() as door:
        told = await printed(door)
    assert told["found"]["pcm"]["size"] == 38_400 and all(each["size"] > 500 for each in told["found"].values())
    # It tells the type by the first bytes, and takes what it does not know for MP3.
    assert {name for name, each in told["found"].items() if each["type"] == "audio/mp3"} == {"aac", "pcm"}
    assert (told["headers"]["x-voice"], told["headers"]["x-ignored-parameters"]) == ("bo", "instructions")
    error = {"name": "AI_APICallError", "again": False}
    assert told["wrong"] == error | {"status": 400, "param": "input", "code": "text_empty"}
    assert told["unknown"] == error | {"status": 404, "param": "voice", "code": "voice_not_found"}
    assert told["model"] == error | {"status": 404, "param": "model", "code": "model_not_found"}


async def test_aborted_call_of_the_ai_sdk_ends_at_the_engine() -> None:
    async with fake_door() as door:
        door.behind.engine.script.pause_at = 5
        assert (await printed(door, "Hello.", "2000"))["error"]
        assert await ended(door.behind.engine.calls) == "CancelledError"


async def test_broken_answer_is_an_error_of_the_ai_sdk() -> None:
    async with fake_door() as door:
        script = door.behind.engine.script
        script.pause_at = script.fail_at = 5
        asking = asyncio.create_task(printed(door, "Hello.", "60000"))
        await eventually(lambda: door.begun)
        script.resume.set()
        assert (await asking)["error"]["name"] == "AI_APICallError"
