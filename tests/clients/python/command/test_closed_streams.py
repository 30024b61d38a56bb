"""`csm` where standard input, output or error is closed, or has another encoding than UTF-8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services.all_in_one.test_programs import environment


def csm(server: Any, folder: Path, arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs it by a shell, whose redirections may stand among the arguments."""
    command = f"exec {sys.executable} -m csm_client {arguments}"
    env = environment(CSM_TARGET=server.target, **more)
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("say - <&-", "error: standard input cannot be read: it is closed\n"),
        ("say Hello. --out - >&-", "error: Standard output is closed.\n"),
    ],
)
def test_a_closed_standard_stream_that_is_needed_is_an_error(
    server: Any, tmp_path: Path, arguments: str, sentence: str
) -> None:
    done = csm(server, tmp_path, arguments)
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1]) == (1, sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_that_is_not_needed_is_ignored(server: Any, tmp_path: Path, closed: str) -> None:
    done = csm(server, tmp_path, f"say Hello. --out a.wav {closed}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_file_name_outside_the_terminal_s_encoding_is_escaped(server: Any, tmp_path: Path) -> None:
    done = csm(server, tmp_path, "say Hello. --out ü.wav", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("file                 \\xfc.wav\n")
