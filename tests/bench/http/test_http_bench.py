"""The benchmark of the HTTP door, at a small size."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.deployment.process import StageProcess
from bench.http.__main__ import main, percentile_ms


async def test_the_last_line_is_the_json_that_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "http.json"
    arguments = ["--pairs", "3", "--streams", "4", "--seconds", "1.6", "--out", str(out)]
    assert await asyncio.to_thread(main, arguments) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(out.read_text())
    assert [row["door"] for row in last["rows"]] == ["gRPC", "HTTP"]
    assert all(row["first_audio_p50_ms"] > 0 for row in last["rows"])
    assert last["load"]["complete"] == 4 and last["load"]["first_mib"] > 10


def test_percentiles_are_nearest_rank() -> None:
    times_s = [0.001 * index for index in range(1, 101)]
    assert (percentile_ms(times_s, 50), percentile_ms(times_s, 95)) == (50.0, 95.0)


def test_processor_time_is_that_of_the_process(tmp_path: Path) -> None:
    stage = StageProcess("http", 0, [], tmp_path)
    stage._process = SimpleNamespace(pid=os.getpid(), returncode=None)  # type: ignore[assignment]
    assert stage.cpu_s() == pytest.approx(time.process_time(), abs=0.1)
