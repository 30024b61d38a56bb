"""Which sequences are admitted, by the time that steps take."""

from __future__ import annotations

import math

from csm_engine.scheduling.admission import RealTimeBudget


def test_without_a_budget_every_stream_is_admitted() -> None:
    budget = RealTimeBudget()
    budget.observe(1, 10.0)
    assert budget.max_rows == math.inf


def test_the_first_stream_is_always_admitted() -> None:
    budget = RealTimeBudget(0.7)
    budget.observe(1, 10.0)
    assert budget.max_rows == 1


def test_batch_grows_until_a_step_would_take_its_share_of_a_frame() -> None:
    """A device whose step costs 4 ms and 0.5 ms a row has room for 104 rows in 56 ms."""
    budget, rows = RealTimeBudget(0.7), 1
    while rows < min(1000, budget.max_rows):
        rows += 1
        for _ in range(50):
            budget.observe(rows, 0.004 + 0.0005 * rows)
    assert 100 <= rows <= 104  # an additional row is assumed to cost its full share


def test_one_slow_step_does_not_stop_admission_for_long() -> None:
    budget = RealTimeBudget(0.7)
    for _ in range(20):
        budget.observe(4, 0.008)
    budget.observe(4, 0.5)
    assert budget.max_rows < 5
    for _ in range(20):
        budget.observe(4, 0.008)
    assert budget.max_rows >= 5
