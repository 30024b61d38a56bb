"""The soak: what counts as a pass, and a short run with real processes."""

from __future__ import annotations

import itertools
import json
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.deployment.process import StageProcess
from bench.soak import __main__ as soak
from bench.soak.uses import USES
from tests.support.tiny.bundle import write_tiny_bundle


def test_callers_use_every_feature_before_they_repeat_one() -> None:
    order = soak.order_of(random.Random(1))
    first, second = (list(itertools.islice(order, len(USES))) for _ in range(2))
    assert set(first) == set(second) == set(USES)
    assert first != second


def row(number: int, **held: float) -> dict[str, Any]:
    usual = {"rss_mb": 600.0, "files": 20, "threads": 10}
    counted = {"allocated_mb": 50.0, "python_blocks": 900_000} if number in (4, 7) else {}
    return {"round": number, "process": "engine"} | usual | counted | held


def rounds(**held: float) -> list[dict[str, Any]]:
    """A first round, three to compare with, and three with these values."""
    return [row(1, rss_mb=1.0), *(row(n) for n in (2, 3, 4)), *(row(n, **held) for n in (5, 6, 7))]


def result(**changed: Any) -> dict[str, Any]:
    passed: dict[str, Any] = {"wrong_calls": 0, "calls": 9, "ended": [], "tracebacks": {"engine": 0}}
    passed |= {"slots": {"engine": {"engine_active_slots": 0.0}}}
    grown = {"rss_mb": 660.0, "allocated_mb": 53.0, "python_blocks": 919_000, "files": 25, "threads": 13}
    return passed | {"rows": rounds(**grown)} | changed


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"wrong_calls": 1}, "answers"),
        ({"ended": ["engine"]}, "ended"),
        ({"tracebacks": {"engine": 2}}, "tracebacks"),
        ({"slots": {"engine": {"engine_active_slots": 1.0}}}, "slots"),
        ({"rows": rounds(rss_mb=665.0)}, "rss_mb"),
        ({"rows": [row(1), row(2, rss_mb=60.0), *(row(n, rss_mb=125.0) for n in (3, 4, 5, 6, 7))]}, "rss_mb"),
        ({"rows": rounds(allocated_mb=54.1)}, "allocated_mb"),
        ({"rows": rounds(python_blocks=921_000)}, "python_blocks"),
        ({"rows": rounds(files=29)}, "files"),
        ({"rows": rounds(threads=15)}, "threads"),
    ],
)
def test_a_run_passes_only_without_a_finding(changed: dict[str, Any], word: str) -> None:
    assert soak.why_not_passed(result()) == []
    (why,) = soak.why_not_passed(result(**changed))
    assert word in why


def test_memory_that_the_allocator_keeps_for_a_while_is_no_growth() -> None:
    assert soak.why_not_passed(result(rows=[*rounds(), row(8, rss_mb=700.0), row(9, rss_mb=601.0)])) == []


async def test_a_stage_tells_on_request_what_it_has_allocated(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        prefix = [sys.executable, "-m", "bench.deployment.counting"]
        stage = StageProcess("http", 0, ["--gateway-target", "127.0.0.1:1"], tmp_path, prefix=prefix)
        stack.push_async_callback(stage.kill)
        await stage.start()
        first, second = await stage.in_use(), await stage.in_use()
        assert 1 < first.allocated_mb < stage.rss_mb() and first.python_blocks > 100_000
        assert first.allocated_mb == pytest.approx(second.allocated_mb, abs=1)
        assert await stage.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_feature_gives_the_same_answer_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    monkeypatch.setattr(soak, "MOST_GROWTH", {})  # so short a run does not know yet what is held for good
    code = soak.main(["--bundle", str(tmp_path / "tiny"), "--logs", str(tmp_path / "logs"), "--minutes", "2"])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, printed
    assert set(printed["calls_by_use"]) == set(USES)
