"""A lease's first checks: a failure does not stop the others. The checks run in the rehearsal and on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from bench.lease import figures
from bench.lease.options import Given
from bench.lease.smoke import __main__ as smoke
from bench.lease.smoke.device_checks import events_on


def fails(given: Given) -> dict[str, object]:
    raise AssertionError("0.5 is too much")


def passes(given: Given) -> dict[str, object]:
    return {"difference": 0.1}


def needs_a_gpu(given: Given) -> dict[str, object]:
    raise AssertionError("it is run on a CPU")


def test_a_check_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.jsonl"
    monkeypatch.setattr(smoke, "CHECKS", (fails, passes))
    monkeypatch.setattr(smoke, "ONLY_ON_A_GPU", (needs_a_gpu,))
    monkeypatch.setattr(sys, "argv", ["smoke", "--device", "cpu", "--shape", "tiny", "--out", str(file)])
    with pytest.raises(SystemExit, match="^failed: fails$"):
        smoke.main()
    _, first, second = figures.read(file)
    assert (first["check"], first["ok"]) == ("fails", False) and "0.5 is too much" in str(first["error"])
    assert (second["check"], second["ok"], second["difference"]) == ("passes", True, 0.1)


def test_events_of_a_profile_are_counted_by_their_device() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        torch.ones(4).add_(1)
    assert events_on(DeviceType.CPU, profile) >= 2 and events_on(DeviceType.CUDA, profile) == 0
