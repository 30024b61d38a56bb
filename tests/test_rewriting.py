"""The asserts of test files are rewritten once by all processes of a run together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.assertion import rewrite

from tests.rewriting import rewrite_share


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    files = [tmp_path / f"test_{name}.py" for name in "abcd"]
    for file in files:
        file.write_text("def test_it():\n    assert 1\n")
    return files


@pytest.fixture
def process(pytestconfig: pytest.Config) -> Callable[..., Any]:
    def process(**more: object) -> Any:
        return SimpleNamespace(stash=pytestconfig.stash, getini=pytestconfig.getini, **more)

    return process


def kept(file: Path) -> Path:
    return rewrite.get_cache_dir(file) / (file.stem + rewrite.PYC_TAIL)


def test_each_process_rewrites_its_share_and_pytest_reads_it(files: list[Path], process: Callable[..., Any]) -> None:
    for number, own in enumerate(([0, 3], [1], [2])):
        before = [kept(file).exists() for file in files]
        rewrite_share(process(workerinput={"workerid": f"gw{number}", "workercount": 3}), files)
        made = [index for index, file in enumerate(files) if kept(file).exists() and not before[index]]
        assert made == own
    assert all(rewrite._read_pyc(file, kept(file)) is not None for file in files)


def test_what_is_rewritten_is_not_rewritten_again(files: list[Path], process: Callable[..., Any]) -> None:
    alone = process(workerinput={"workerid": "gw0", "workercount": 1})
    rewrite_share(alone, files)
    before = [kept(file).stat().st_mtime_ns for file in files]
    files[2].write_text("def test_it():\n    assert 2\n")
    rewrite_share(alone, files)
    after = [kept(file).stat().st_mtime_ns for file in files]
    assert [index for index in range(4) if after[index] != before[index]] == [2]


def test_a_run_of_one_process_rewrites_nothing_in_advance(files: list[Path], process: Callable[..., Any]) -> None:
    rewrite_share(process(), files)
    assert not any(kept(file).exists() for file in files)
