"""docs/callers/sdks.md names the versions that the tests run, and addresses that the door does not have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.door.fake_door import fake_door


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "callers" / "sdks.md").read_text(encoding="utf-8")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)", text, re.MULTILINE))


def test_versions_are_those_of_the_tests(repository: Path, page: str) -> None:
    python = pins((repository / "tests/plugins/openai_sdks/requirements.txt").read_text(encoding="utf-8"))
    node: dict[str, str] = {}
    for name in ("openai", "ai_sdk"):
        package = repository / "tests" / "polyglot" / name / "package.json"
        node |= json.loads(package.read_text(encoding="utf-8"))["dependencies"]
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([\d., ]+) \|", page, re.MULTILINE))
    assert rows == {
        "OpenAI's Python client": python["openai"],
        "OpenAI's Node client": node["openai"],
        "Vercel's AI SDK, `ai` and `@ai-sdk/openai`": f"{node['ai']}, {node['@ai-sdk/openai']}",
        "LiteLLM": python["litellm"],
        "LiveKit Agents, `livekit-plugins-openai`": python["livekit-plugins-openai"],
        "Pipecat": python["pipecat-ai"],
        "OpenAI's Agents SDK, voice pipeline": python["openai-agents"],
    }
    assert pins((repository / "requirements/dev.txt").read_text(encoding="utf-8"))["openai"] == python["openai"]


async def test_unsupported_endpoints_and_forms_are_errors(page: str) -> None:
    async with fake_door() as door:
        form: dict[str, Any] = {"name": (None, "n"), "consent": (None, "c"), "audio_sample": ("a.wav", b"RIFF")}
        for path, status in (("/v1/audio/transcriptions", 404), ("/v1/realtime", 404), ("/v1/audio/voices", 400)):
            assert path == "/v1/audio/voices" or f"`{path}`" in page
            answer = await door.client.post(path, files=form)
            assert answer.status_code == status and answer.json()["error"]["message"]
