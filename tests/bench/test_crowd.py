"""The crowd of slow and idle callers: what counts as a pass, and a small run with real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.crowd import __main__ as crowd
from bench.crowd.callers import KINDS


def result(**changed: Any) -> dict[str, Any]:
    row = {"failed": [], "stalled_s": [0.01, 0.5]}
    return {"not_ended": 0, "ended": [], "tracebacks": {"gateway": 0}, "slots": {}, "rows": [row]} | changed


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"not_ended": 2}, "2 callers were not ended"),
        ({"ended": ["gateway"]}, "processes ended"),
        ({"tracebacks": {"gateway": 1}}, "tracebacks"),
        ({"rows": [{"failed": ["QUEUE_FULL"], "stalled_s": []}]}, "streams of listeners failed"),
        ({"rows": [{"failed": [], "stalled_s": [0.1, 2.5]}]}, "ran dry for 2.5 s"),
    ],
)
def test_each_kind_of_failure_fails_the_run(changed: dict[str, Any], why: str) -> None:
    assert crowd.why_not_passed(result()) == []
    (told,) = crowd.why_not_passed(result(**changed))
    assert why in told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_caller_of_each_kind_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crowd.main(["--callers", str(len(KINDS)), "--logs", str(tmp_path)])  # a busy machine makes listeners wait
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["not_ended"] == 0 and set(found["ends"]) == set(KINDS)
    assert list(found["ends"]["reads_nothing"]["how"]) == ["CLIENT_TOO_SLOW"]
