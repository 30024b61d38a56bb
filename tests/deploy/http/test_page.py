"""docs/http.md against what is served: fields, formats, routes, settings, messages; its Python examples run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.settings import setting_names
from services.http.api.formats import CONTENT_TYPES
from services.http.app import routers
from services.http.endpoints.speech_request import SpeechRequest
from services.http.settings import HttpSettings
from tests.support.door.fake_door import fake_door


@pytest.fixture(scope="session")
def page(repository: Path) -> str:
    return (repository / "docs" / "http.md").read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_every_field_is_in_the_table(page: str) -> None:
    table = [line for line in section(page, "Speech").splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(SpeechRequest.model_fields) <= named
    assert all(f"`{name}`" in page for name in CONTENT_TYPES)


async def test_every_address_is_in_the_table(page: str) -> None:
    async with fake_door() as door:
        for router in routers(door.stage.door):
            for route in router.routes:
                path = getattr(route, "path", "").replace("{model:path}", "NAME")
                assert f"{path}`" in page, path


def test_flags_are_flags_of_the_door(page: str) -> None:
    known = {name.flag for name in setting_names(HttpSettings)} | {"--http-port", "--http-host"}
    flags = {flag.replace("--no-", "--") for flag in re.findall(r"`(--[a-z-]+)", page)}
    assert len(flags) > 15 and flags <= known


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("index", "file", "size"), [(0, "hello.wav", 44 + 38_400), (1, "hello.raw", 2 * 38_400)])
async def test_python_examples_run(page: str, tmp_path: Path, index: int, file: str, size: int) -> None:
    async with fake_door() as door:
        program = examples(page)[index].replace("127.0.0.1:8000", door.url.removeprefix("http://"))
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / file).stat().st_size == size


async def test_curl_examples_are_right_requests(page: str) -> None:
    (data,) = re.findall(r"-d '(\{.*\})'", section(page, "Speech"))
    async with fake_door() as door:
        answer = await door.client.post("/v1/audio/speech", content=data, headers={"content-type": "application/json"})
        assert answer.status_code == 200
