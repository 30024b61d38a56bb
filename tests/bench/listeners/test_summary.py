"""Percentiles, overlaps, shares."""

from __future__ import annotations

from bench.listeners.load import LoadRecord
from bench.listeners.percentiles import spread
from bench.listeners.probe import ProbeRecord
from bench.listeners.summary import max_overlap, summarize


def test_percentiles_are_nearest_rank() -> None:
    assert spread([value / 1000 for value in range(1, 101)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert spread([0.004, 0.001, 0.002]) == {"p50": 2, "p95": 4, "p99": 4, "max": 4}
    assert spread([]) is None


def test_overlap_counts_concurrent_requests() -> None:
    assert max_overlap([(0, 3), (1, 2), (2, 4)]) == 2  # the second ends when the third begins
    assert max_overlap([(0, 3), (1, 3), (2, 4)]) == 3
    assert max_overlap([]) == 0


def test_a_run_without_requests_has_no_figures() -> None:
    row = summarize(LoadRecord([], ProbeRecord()), rate=0.1, duration_s=1, buffer_s=0)
    assert (row["sent"], row["ttfa_ms"], row["streaming_viability"], row["audio_s_per_s"]) == (0, None, None, 0)
