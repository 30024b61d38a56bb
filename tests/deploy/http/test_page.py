"""docs/http.md against what is served: fields, formats, routes, settings, messages; its examples run."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2

from services.common.settings import setting_names
from services.http.api.formats import CONTENT_TYPES
from services.http.app import routes_of
from services.http.endpoints.speech_request import SpeechRequest
from services.http.endpoints.voices import VoiceRequest
from services.http.settings import HttpSettings
from tests.support.door import page_examples as pages
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.wav import wav_of

PAGE = pages.REPOSITORY / "docs" / "http.md"


@pytest.fixture(scope="session")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_every_field_is_in_the_table(page: str) -> None:
    table = [line for line in section(page, "Speech").splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(SpeechRequest.model_fields) <= named
    assert all(f"`{name}`" in page for name in CONTENT_TYPES)
    table = [line for line in section(page, "Voices").splitlines() if line.startswith("| `")]
    assert set(VoiceRequest.model_fields) == {
        name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }


async def test_every_address_is_in_the_table(page: str) -> None:
    async with fake_door() as door:
        for route in routes_of(door.stage.settings):
            path = getattr(route, "path", "")
            path = re.sub(r"\{[\w:]+\}", "NAME", path)
            assert f"{path}`" in page, path


def test_flags_are_flags_of_the_door(page: str) -> None:
    known = {name.flag for name in setting_names(HttpSettings)} | {"--http-port", "--http-host"}
    flags = {flag.replace("--no-", "--") for flag in re.findall(r"`(--[a-z-]+)", page)}
    assert len(flags) > 15 and flags <= known


async def printed(door: FakeDoor, program: str, folder: Path, *command: str) -> str:
    """What an example of the page prints."""
    done = await pages.run([*command, pages.at(door, program)], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_python_example_runs(tmp_path: Path) -> None:
    (program,) = pages.blocks(PAGE, "python")
    async with fake_door() as door:
        await printed(door, program, tmp_path, sys.executable, "-c")
    assert (tmp_path / "hello.wav").stat().st_size == 44 + 38_400


async def test_shell_examples_run_with_a_recording_of_the_advised_length(tmp_path: Path) -> None:
    _door, speech, watermark, voice = pages.blocks(PAGE, "sh")
    shell = ("bash", "-euo", "pipefail", "-c")
    async with fake_door({"voices_database": str(tmp_path / "voices.sqlite")}) as door:
        await printed(door, speech, tmp_path, *shell)
        assert (tmp_path / "hello.wav").stat().st_size == 44 + 38_400
        assert (await printed(door, watermark, tmp_path, *shell)).count('"detected":true') == 2
        door.behind.codec.detection = codec_pb2.DetectWatermarkResponse()
        (tmp_path / "eve.wav").write_bytes(wav_of(struct.pack("<2h", 4000, -4000) * 12_000 * 15))
        made = await printed(door, re.sub(r"\bada\b", "eve", voice), tmp_path, *shell)
        assert json.loads(made)["consent"]["id"] == "contract 17"
        assert (await door.client.get("/v1/audio/voices/eve")).status_code == 404


def test_pictures_are_small_and_shown(repository: Path, page: str) -> None:
    pictures = {path.name: path.stat().st_size for path in (repository / "docs" / "images").iterdir()}
    assert set(pictures) == {"page-dark.webp", "page-light.webp"} and max(pictures.values()) < 150_000
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/images/{name}" in readme for name in pictures)
