"""Every example in Python and for the shell on the pages for callers runs against a gateway and an HTTP door."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.door import page_examples as pages
from tests.support.door.fake_door import fake_door

FOLDER = pages.REPOSITORY / "docs" / "callers"
FRAMES = 10  # of every sentence that the stand-in of the engine speaks
SPEECH = FRAMES * 1920 * 2  # bytes
WAV = SPEECH + 44

# What each example prints, in part, and the sizes of the files that it makes; None is any size.
PYTHON: Mapping[str, list[tuple[str, dict[str, int | None]]]] = {
    "python.md": [
        ("0.80 s", {"hello.wav": WAV}),
        ("", {"hello.raw": SPEECH}),
        ("['It is half past nine.', 'Shall we go?']", {"answer.raw": 2 * SPEECH}),
        ("24000", {}),
        ("input.text is empty; there is nothing to say.\nsampling_params.top_k is 0", {}),
        ("fake/1", {}),
        ("True", {}),
    ],
    "grpc.md": [
        ("24000 Hz\nFINISH_REASON_END_OF_SPEECH", {"hello.raw": SPEECH}),
        ("At the market.\nIt was full.", {"answer.raw": 2 * SPEECH}),
        ("INVALID_ARGUMENT TEXT_EMPTY\ninput.text is empty; there is nothing to say.", {}),
        ("fake/1", {}),
    ],
    "websocket.md": [
        ("It is half past nine.\nShall we go?", {"answer.raw": 2 * SPEECH}),
        ("stopped", {}),
    ],
}
SHELL: list[tuple[str, dict[str, int | None]]] = [
    ("", {"hello.wav": WAV, "hello.mp3": None, "faster.ogg": None, "call.ulaw": None}),
    ("", {"story.wav": WAV + SPEECH, "hello.raw": SPEECH}),
    ("", {"turn0.wav": WAV, "turn1.wav": WAV}),
    ("model                fake/1", {}),
    ('"detected": true', {"marked.wav": WAV}),
    ("watermark of key key-1 found", {"marked.ulaw": SPEECH // 6}),
    ("", {"hello.wav": WAV}),
]


def check(folder: Path, printed: str, expected: str, files: Mapping[str, int | None]) -> None:
    assert expected in printed
    for name, size in files.items():
        found = (folder / name).stat().st_size
        assert found == size or (size is None and found), name


# Runs programs, each as if it were the only one, in a folder of its own: a process for each would load gRPC again.
RUNNER = """
import json, os, sys
home = os.getcwd()
for number, program in enumerate(json.load(sys.stdin)):
    os.makedirs(f"{home}/{number}")
    os.chdir(f"{home}/{number}")
    exec(compile(program, f"example {number}", "exec"), {"__name__": "__main__"})
    print(flush=True, end="\\0")
"""


@pytest.mark.parametrize("page", PYTHON)
async def test_python_examples_run(page: str, tmp_path: Path) -> None:
    async with fake_door() as door:
        programs = [pages.at(door, program) for program in pages.blocks(FOLDER / page, "python")]
        done = await pages.run([sys.executable, "-c", RUNNER], tmp_path, given=json.dumps(programs))
    assert done.returncode == 0, done.stderr
    *printed, _ = done.stdout.split("\0")
    assert len(printed) == len(PYTHON[page])
    for number, (expected, files) in enumerate(PYTHON[page]):
        check(tmp_path / str(number), printed[number], expected, files)


@pytest.mark.parametrize("index", range(len(SHELL)))
async def test_shell_example_runs(index: int, tmp_path: Path) -> None:
    async with fake_door() as door:
        program = pages.at(door, pages.blocks(FOLDER / "cli.md", "sh")[index])
        environment = {"PATH": pages.csm_on_path(tmp_path), "CSM_TARGET": door.behind.target}
        done = await pages.run(["bash", "-euo", "pipefail", "-c", program], tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        check(tmp_path, done.stdout, *SHELL[index])


def test_no_example_is_left_out() -> None:
    found = {page.name: len(pages.blocks(page, "python")) for page in FOLDER.glob("*.md")}
    assert {name: count for name, count in found.items() if count} == {name: len(PYTHON[name]) for name in PYTHON}
    assert len(pages.blocks(FOLDER / "cli.md", "sh")) == len(SHELL)
