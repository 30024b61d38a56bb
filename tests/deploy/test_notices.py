"""LICENSE and THIRD_PARTY_NOTICES.md: the whole lock is named, with versions, licences and who installs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SETS = ["gateway", "http", "engine", "codec", "client"]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(page: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(package, version) -> (licence, installed by)."""
    table = page.partition("<!-- packages -->")[2].partition("<!-- end of packages -->")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return {(name, version): (license_name, sets) for name, version, license_name, sets in cells}


def locked(repository: Path, name: str) -> set[tuple[str, str]]:
    lines = (repository / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition(" ;")[0].split("==") for line in lines if not line.startswith("#")]
    return {(re.sub(r"[-_.]+", "-", package).lower(), version) for package, version in pins}


def test_every_package_of_the_lock_has_a_row_with_a_licence(
    repository: Path, rows: dict[tuple[str, str], tuple[str, str]]
) -> None:
    assert set(rows) == locked(repository, "dev")
    assert [row for row, (license_name, _) in rows.items() if license_name in ("", "UNKNOWN")] == []


@pytest.mark.parametrize("name", SETS)
def test_rows_name_what_each_image_installs(
    repository: Path, rows: dict[tuple[str, str], tuple[str, str]], name: str
) -> None:
    assert {row for row, (_, sets) in rows.items() if name in sets.split(", ")} == locked(repository, name)


def test_the_table_is_generated_by_the_tool(repository: Path) -> None:
    command = [sys.executable, str(repository / "requirements" / "notices.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["x264", "soxr", "LGPL-2.1", "flite", "wordfreq", "CC BY-SA 4.0", "GPL-3.0"])
def test_parts_with_other_terms_are_named(page: str, name: str) -> None:
    assert name in page.partition("<!-- packages -->")[0]


def test_the_licence_is_apache(repository: Path) -> None:
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
