"""The list of wheels has exact versions, and wheels that do not fit are refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.lease.wheels.installed import check, install
from bench.lease.wheels.lists import MOST_IN_ALL, SERVICE_WHEELS, WHEELS, Wheels

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("wheels", [WHEELS, SERVICE_WHEELS], ids=["all others", "service"])
def test_every_wheel_has_its_version(wheels: Wheels) -> None:
    names = wheels.names
    assert len(names) == len(set(names)) > 20
    assert [name for name in names if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", name)] == []


def test_too_many_bytes_and_too_few_wheels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a-1.whl").write_bytes(b"12345")
    assert check(tmp_path, 1, most_bytes=5) == 5
    with pytest.raises(RuntimeError, match="take 5 bytes; at most 4 are allowed"):
        check(tmp_path, 1, most_bytes=4)
    with pytest.raises(RuntimeError, match="holds 1 wheels; 2 are wanted"):
        check(tmp_path, 2, most_bytes=5)


def test_wheels_that_cannot_be_installed_leave_no_folder_that_counts_as_done(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no archive")
    site = tmp_path / "site"
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            install(tmp_path, site)
        assert not site.exists()


# Of the project, what the part `service` needs; bench/README.md says how to send only that.
OF_THE_SERVICE = (
    "bench", "csm_bundle", "csm_codec", "csm_engine", "csm_text", "services", "clients/python", "tests/__init__.py",
    "tests/support", "bundles/csm-1b", "protos", "pyproject.toml", "Makefile",
)  # fmt: skip


@pytest.mark.parametrize(("wheels", "parts"), [(WHEELS, ["."]), (SERVICE_WHEELS, OF_THE_SERVICE)])
def test_the_projects_files_leave_room_for_the_wheels(wheels: Wheels, parts: Sequence[str]) -> None:
    """A machine that gets more accepts nothing at all."""
    if not (ROOT / ".git").exists():
        pytest.skip("which files are the project's is read from git")
    command = ["git", "ls-files", "-z", *parts]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    size = sum(file.lstat().st_size for file in files if file.exists() or file.is_symlink())
    assert 0 < size <= MOST_IN_ALL - wheels.most_bytes, f"{size - MOST_IN_ALL + wheels.most_bytes} bytes too many"


def test_the_wheels_of_the_service_are_those_of_the_lock() -> None:
    locked = (ROOT / "requirements" / "dev.txt").read_text().lower().split()
    assert [name for name in SERVICE_WHEELS.names if name not in locked] == []
