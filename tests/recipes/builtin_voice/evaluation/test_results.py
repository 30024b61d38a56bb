"""Figures are kept as they come, each beside those of before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.builtin_voice.evaluation.results import Results, Row

CONDITIONS: Row = {"voice": "fake/1", "sampling": {"temperature": 0.15}}


def test_results_before_an_interruption_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "words.json"
    Results(path, "words", ("set", "arm"), CONDITIONS).put({"set": "names", "arm": "flite", "all": 0.1})
    kept = json.loads(path.read_text())
    assert kept["benchmark"] == "words" and kept["voice"] == "fake/1"
    assert [(row["set"], row["arm"], row["all"]) for row in kept["rows"]] == [("names", "flite", 0.1)]
    assert {"device", "commit"} <= set(kept)


def test_a_later_run_replaces_what_it_measures_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    first = Results(path, "words", ("set", "arm"), CONDITIONS)
    first.put({"set": "names", "arm": "flite", "all": 0.1})
    first.put({"set": "names", "arm": "voice", "all": 0.3})
    later = Results(path, "words", ("set", "arm"), CONDITIONS)
    later.put({"set": "names", "arm": "voice", "all": 0.2})
    later.put({"set": "domain", "arm": "voice", "all": 0.4})
    rows = json.loads(path.read_text())["rows"]
    assert [(row["set"], row["arm"], row["all"]) for row in rows] == [
        ("names", "flite", 0.1),
        ("names", "voice", 0.2),
        ("domain", "voice", 0.4),
    ]


def test_parts_of_a_row_may_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "voice.json"
    for figures in ({"ended": 100}, {"told_apart": 99}):
        Results(path, "voice", ("set",), CONDITIONS).put({"set": "domain", **figures})
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["ended"], row["told_apart"]) == (100, 99)


def test_figures_of_another_voice_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "words.json"
    Results(path, "words", ("set",), CONDITIONS).put({"set": "names"})
    Results(path, "words", ("set",), {**CONDITIONS, "voice": "fake/2"}).put({"set": "domain"})
    kept = json.loads(path.read_text())
    assert kept["voice"] == "fake/2" and [row["set"] for row in kept["rows"]] == ["domain"]
    assert "begins anew: it was of another voice" in capsys.readouterr().err
