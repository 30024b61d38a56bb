"""OpenAI's own Node client against the HTTP door. Its package comes from `npm ci` in tests/polyglot/openai."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from csm_client.tables.encodings import ENCODINGS

from tests.support.door.fake_door import fake_door

FOLDER = Path(__file__).parent / "openai"
FORMATS = [name for name in ("mp3", "opus", "aac", "flac", "wav", "pcm") if name in ENCODINGS]

pytestmark = pytest.mark.polyglot


async def test_node_client_cannot_tell_the_door_from_openai() -> None:
    if not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.fail("tests/polyglot/openai has no packages; run `npm ci` there.")
    async with fake_door() as door:
        process = await asyncio.create_subprocess_exec(
            "node", str(FOLDER / "speech.mjs"), door.url, ",".join(FORMATS), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0
    told = json.loads(out)
    assert told["sizes"]["pcm"] == 38_400 and all(size > 100 for size in told["sizes"].values())
    assert told["pieces"] > 1 and told["done"]
    assert told["wrong"] == {
        "kind": "BadRequestError", "status": 400, "param": "input", "code": "text_empty",
    }  # fmt: skip
    assert (told["unknown"]["kind"], told["unknown"]["param"]) == ("NotFoundError", "voice")
    assert "fake/1" in told["models"]
