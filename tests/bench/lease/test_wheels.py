"""The list of wheels has exact versions, and wheels that do not fit are refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bench.lease.wheels import LIST, MOST_BYTES, MOST_IN_ALL, check, install, wanted

ROOT = Path(__file__).parents[3]


def test_every_wheel_has_its_version() -> None:
    names = wanted(LIST.read_text())
    assert len(names) == len(set(names)) > 20
    assert [name for name in names if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", name)] == []


def test_too_many_bytes_and_too_few_wheels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a-1.whl").write_bytes(b"12345")
    assert check(tmp_path, 1, most_bytes=5) == 5
    with pytest.raises(RuntimeError, match="take 5 bytes; at most 4 are allowed"):
        check(tmp_path, 1, most_bytes=4)
    with pytest.raises(RuntimeError, match="holds 1 wheels; 2 are wanted"):
        check(tmp_path, 2)


def test_wheels_that_cannot_be_installed_leave_no_folder_that_counts_as_done(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no archive")
    site = tmp_path / "site"
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            install(tmp_path, site)
        assert not site.exists()


def test_the_projects_files_leave_room_for_the_wheels() -> None:
    """A machine that gets more accepts nothing at all."""
    if not (ROOT / ".git").exists():
        pytest.skip("which files are the project's is read from git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    size = sum(file.lstat().st_size for file in files if file.exists() or file.is_symlink())
    assert size <= MOST_IN_ALL - MOST_BYTES, f"{size - MOST_IN_ALL + MOST_BYTES} bytes too many"
