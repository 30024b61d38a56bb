"""Tables and plots from results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.listeners.load import LoadRecord, StreamRecord
from bench.listeners.playback import Arrival
from bench.listeners.probe import ProbeRecord
from bench.listeners.summary import summarize

FRAME_ROWS = [
    {"arm": arm, "batch": batch, "context": 512, "frame_ms": 5.0, "frames_per_second": 200.0, "percent_of_floor": 40.0}
    for arm in ("ours", "reference")
    for batch in (1, 8)
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    stream = StreamRecord(0.0, 0.0, ended_at_s=0.5, audio=[Arrival(0.125, 0.5), Arrival(0.75, 0.5)])
    serving = {
        "benchmark": "serving",
        "device": "NVIDIA H200",
        "commit": "abc1234",
        "model": "csm-1b/1",
        "max_audio_s": [2, 8],
        "context_turns": 4,
        "note": "Alone on the machine.",
        "rows": [summarize(LoadRecord([stream], ProbeRecord()), 2.0, 10.0, 0.0)],
    }
    frame_step = {
        "benchmark": "frame_step",
        "device": "NVIDIA H200",
        "commit": "abc1234",
        "shape": "csm-1b",
        "dtype": "bfloat16",
        "rows": FRAME_ROWS,
    }
    for name, result in (("serving.json", serving), ("frame_step.json", frame_step)):
        (tmp_path / name).write_text(json.dumps(result))
    return tmp_path


def test_tables_hold_the_figures_and_where_they_were_measured(results: Path) -> None:
    text = report.markdown(report.read_results(results))
    assert text.count("NVIDIA H200; commit abc1234") == 2
    assert "| ours | 8 | 512 | 5 | 200 | - | 40 |" in text
    assert "Model csm-1b/1, at most 2-8 s of audio. 4 turns of context. Alone on the machine." in text
    serving = next(line for line in text.splitlines() if line.startswith("| 2 |"))
    cells = [cell.strip() for cell in serving.strip("|").split("|")]
    assert cells[:7] == ["2", "1", "0", "-", "0", "1", "125"]
    assert cells[12:15] == ["100 %", "0.125", "0 %"]


def test_a_benchmark_that_is_not_known_shows_its_plain_values(results: Path) -> None:
    rows = [{"name": "embed", "ms": 1.5, "spread": {"p50": 1}}]
    other = {"benchmark": "other", "device": "x", "commit": "y", "rows": rows}
    (results / "other.json").write_text(json.dumps(other))
    assert "| name | ms |\n| ---: | ---: |\n| embed | 1.5 |" in report.markdown(report.read_results(results))


def test_a_file_that_is_no_result_is_named(results: Path) -> None:
    (results / "notes.json").write_text('{"rows": []}')
    with pytest.raises(ValueError, match=r"notes\.json has no benchmark, commit, device"):
        report.read_results(results)


def test_the_page_of_tables_is_made_of_the_kept_results() -> None:
    made = report.page(report.read_results(report.RESULTS))
    assert report.PAGE.read_text(encoding="utf-8") == made, "run `python -m bench.report --write`"


def test_plots_are_drawn(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert report.main(["--results", str(results), "--plot", str(tmp_path / "plots")]) == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"frame_time.png", "ttfa.png"}


def test_without_matplotlib_plotting_is_refused(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert report.main(["--results", str(results), "--plot", str(results / "plots")]) == 1
    assert "needs matplotlib" in capsys.readouterr().err
