"""The examples of docs/callers/node.md, voices.md and the README run as they are, in a folder with packages and protos.

So does the browser's example of websocket.md, with Node's WebSocket.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2

from tests.services.gateway.voices.callers import wav
from tests.support.door import page_examples as pages
from tests.support.door.fake_door import fake_door
from tests.support.fake_stages import numbered_audio

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

PAGE = pages.REPOSITORY / "docs" / "callers" / "node.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packages = pages.REPOSITORY / "clients" / "node" / "node_modules"
    if not (packages / "@grpc").is_dir():
        pytest.fail("clients/node has no packages; run `npm ci` there.")
    (tmp_path / "node_modules").mkdir()
    for package in [*packages.iterdir(), packages.parent]:
        name = "csm-client-node" if package == packages.parent else package.name
        (tmp_path / "node_modules" / name).symlink_to(package)
    (tmp_path / "protos").symlink_to(pages.REPOSITORY / "protos")
    return tmp_path


@pytest.mark.parametrize(
    ("index", "printed", "file", "audio"),
    [
        (0, "[ 'It is half past nine', 'Shall we go?' ]\n", "answer.raw", 2 * numbered_audio(range(10))),
        (1, "fake/1\nada en\nbo en de\ntrue\n", "hours.wav", numbered_audio(range(10))),
        (3, "FINISH_REASON_END_OF_SPEECH\n", "hello.wav", numbered_audio(range(10))),
        (4, "At the market.\nIt was full.\n", "answer.raw", 2 * numbered_audio(range(10))),
    ],
)
async def test_example_runs(folder: Path, index: int, printed: str, file: str, audio: bytes) -> None:
    async with fake_door() as door:
        (folder / "example.mjs").write_text(pages.at(door, pages.blocks(PAGE, "js")[index]))
        done: subprocess.CompletedProcess[str] = await pages.run(["node", "example.mjs"], folder)
        assert (done.returncode, done.stdout) == (0, printed), done.stderr
        assert (folder / file).read_bytes().endswith(audio)


async def test_example_of_errors_runs(folder: Path) -> None:
    async with fake_door() as door:
        (folder / "example.mjs").write_text(pages.at(door, pages.blocks(PAGE, "js")[2]))
        done = await pages.run(["node", "example.mjs"], folder)
    assert done.stdout.startswith("input.text is empty; there is nothing to say.\nsampling_params.top_k is 0")
    assert done.returncode == 0 and done.stderr.startswith("INVALID_ARGUMENT: ")


async def test_example_of_the_readme_runs(folder: Path) -> None:
    (program,) = pages.blocks(pages.REPOSITORY / "clients" / "node" / "README.md", "js")
    async with fake_door() as door:
        (folder / "example.mjs").write_text(pages.at(door, program.replace("localhost", "127.0.0.1")))
        done = await pages.run(["sh", "-c", "node example.mjs > hello.raw"], folder)
    assert (done.returncode, done.stderr) == (0, "FINISH_REASON_END_OF_SPEECH\n")
    assert (folder / "hello.raw").read_bytes() == numbered_audio(range(10))


async def test_example_keeps_a_voice(folder: Path) -> None:
    (folder / "eve.wav").write_bytes(wav())
    (program,) = pages.blocks(PAGE.parents[1] / "voices.md", "js")
    async with fake_door({"voices_database": str(folder / "voices.sqlite")}) as door:
        door.behind.codec.detection = codec_pb2.DetectWatermarkResponse()
        (folder / "example.mjs").write_text(pages.at(door, re.sub(r"\bada\b", "eve", program)))
        done = await pages.run(["node", "example.mjs"], folder)
        assert done.returncode == 0, done.stderr
        kept = (await door.client.get("/v1/audio/voices/eve")).json()
    assert kept["consent"]["id"] == "contract 17"


async def test_browser_example_runs(folder: Path) -> None:
    async with fake_door() as door:
        (program,) = pages.blocks(PAGE.with_name("websocket.md"), "js")
        (folder / "example.mjs").write_text(pages.at(door, program))
        done = await pages.run(["node", "--experimental-websocket", "example.mjs"], folder)
        if "bad option" in done.stderr:
            pytest.skip("this Node has no WebSocket; 20.10 has one")
        assert (done.returncode, done.stdout) == (0, "19200 samples\n"), done.stderr


def test_no_example_is_left_out() -> None:
    assert len(pages.blocks(PAGE, "js")) == 5
