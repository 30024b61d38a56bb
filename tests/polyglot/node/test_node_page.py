"""The examples of docs/callers/node.md run as they are, in a folder with the packages and the protos.

So does the browser's example of websocket.md, with Node's WebSocket.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "protos").symlink_to(pages.REPOSITORY / "protos")
    return tmp_path


@pytest.mark.parametrize(
    ("index", "printed", "file", "audio"),
    [
        (0, "FINISH_REASON_END_OF_SPEECH\n", "hello.wav", numbered_audio(range(10))),
        (1, "At the market.\nIt was full.\n", "answer.raw", 2 * numbered_audio(range(10))),
    ],
)
async def test_example_runs(folder: Path, index: int, printed: str, file: str, audio: bytes) -> None:
    async with fake_door() as door:
        (folder / "example.mjs").write_text(pages.at(door, pages.blocks(PAGE, "js")[index]))
        done: subprocess.CompletedProcess[str] = await pages.run(["node", "example.mjs"], folder)
        assert (done.returncode, done.stdout) == (0, printed), done.stderr
        assert (folder / file).read_bytes().endswith(audio)


async def test_browser_example_runs(folder: Path) -> None:
    async with fake_door() as door:
        (program,) = pages.blocks(PAGE.with_name("websocket.md"), "js")
        (folder / "example.mjs").write_text(pages.at(door, program))
        done = await pages.run(["node", "--experimental-websocket", "example.mjs"], folder)
        if "bad option" in done.stderr:
            pytest.skip("this Node has no WebSocket; 20.10 has one")
        assert (done.returncode, done.stdout) == (0, "19200 samples\n"), done.stderr


def test_no_example_is_left_out() -> None:
    assert len(pages.blocks(PAGE, "js")) == 2
