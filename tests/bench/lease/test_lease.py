"""A lease's parts: their limits, figures that are kept however a part ends, and a whole lease at tiny shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.lease import figures
from bench.lease.__main__ import (
    LEASE_MINUTES,
    REHEARSAL_MINUTES,
    REHEARSED_PART_S,
    command_of,
    environment_of,
    parse_arguments,
    run,
)
from bench.lease.parts import PARTS, Part, named
from bench.lease.wheels.lists import WHEELS
from tests.gpu.conftest import pytest_runtest_logreport

ROOT = Path(__file__).parents[3]
WRITES_ONE = (
    "import sys; from pathlib import Path; from bench.lease.figures import Figures;"
    "Figures(Path(sys.argv[2]), 'one').add(frame_ms=8.5);"
)


def run_program(program: str, folder: Path, limit_s: float = 30.0) -> dict[str, object]:
    part = Part("one", 60, ("-c", program), ("-c", program))
    command = command_of(part, False, folder / "figures.jsonl", [])
    return run(part, command, limit_s, os.environ | {"PYTHONPATH": str(ROOT)}, folder)


def test_a_part_that_hangs_is_ended_and_its_figures_count(tmp_path: Path) -> None:
    for limit_s in (3.0, 30.0):  # where a machine is busy it may end before the program has begun
        told = run_program(WRITES_ONE + "import time; time.sleep(600)", tmp_path, limit_s=limit_s)
        assert told["timed_out"] and told["exit_code"] != 0
        if told["figures"]:
            break
    assert told["figures"] == 1
    assert [line["frame_ms"] for line in figures.read(tmp_path / "figures.jsonl")] == [8.5]


def test_a_failed_part_is_reported_with_its_last_line(tmp_path: Path) -> None:
    told = run_program(WRITES_ONE + "sys.exit('no device')", tmp_path)
    assert told["exit_code"] == 1 and not told["timed_out"] and told["last_line"] == "no device"
    assert "no device" in (tmp_path / "parts.log").read_text()


def test_figures_are_on_disk_when_they_are_added(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "figures.jsonl"
    written = figures.Figures(file, "grid")
    for batch in (1, 64):
        written.add(batch=batch)
        assert json.loads(file.read_text().splitlines()[-1])["batch"] == batch
    assert {line["part"] for line in figures.read(file)} == {"grid"}


def test_every_part_ends_within_nine_minutes() -> None:
    assert all(0 < part.limit_s < 540 for part in PARTS)


def test_a_rehearsal_runs_the_device_tests_themselves_on_a_cpu(tmp_path: Path) -> None:
    tests = [part for part in PARTS if not part.figures]
    assert len(tests) == 4 and all(part.rehearsed == part.arguments for part in tests)
    chosen = ("CSM_TEST_DEVICE", "TRITON_INTERPRET")
    without_wheels = replace(tests[0], wheels=replace(WHEELS, folder=tmp_path / "none"))
    rehearsed = environment_of(without_wheels, parse_arguments(["--rehearse"]))
    assert [rehearsed[name] for name in chosen] == ["cpu", "1"]
    leased = environment_of(without_wheels, parse_arguments([]))
    assert [leased[name] for name in chosen] == ["cuda", "0"]


def test_an_unknown_part_is_refused_with_the_known_parts() -> None:
    with pytest.raises(ValueError, match="'codecs' is unknown; allowed are smoke, kernels, tests, .*serving"):
        named(["smoke", "codecs"])


def test_a_rehearsal_has_time_for_a_part_of_the_longest_kind_and_for_others() -> None:
    minutes = [parse_arguments(words).minutes for words in ([], ["--rehearse"], ["--rehearse", "--minutes", "3"])]
    assert minutes == [LEASE_MINUTES, REHEARSAL_MINUTES, 3]
    assert 60 * REHEARSAL_MINUTES > 2 * REHEARSED_PART_S > 2 * max(part.limit_s for part in PARTS)


PROGRAM_S = 60 * REHEARSAL_MINUTES + 60  # by then the rehearsal has ended its last part


@pytest.mark.slow
@pytest.mark.timeout(PROGRAM_S + 60)
def test_rehearsal_gives_figures_of_every_part(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.lease", "--rehearse", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROGRAM_S)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["ended_well"] and done.returncode == 0, done.stdout[-3000:]
    assert set(line["parts"]) == {part.name for part in PARTS}
    for part in PARTS:
        told = line["parts"][part.name]
        assert told["figures"] > 1 if part.figures else "passed" in told["last_line"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures.jsonl", "parts.log"]


def test_a_failure_on_a_gpu_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = pytest.TestReport("tests/gpu/test_one.py::test", ("", 0, ""), {}, "failed", "assert 1 == 2", "call")
    pytest_runtest_logreport(report)
    assert "tests/gpu/test_one.py::test" in (told := capsys.readouterr().out) and "assert 1 == 2" in told
