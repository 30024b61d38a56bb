"""The plan of a run."""

from __future__ import annotations

import statistics
from random import Random

import pytest

from bench.listeners.workload import AudioLength, arrivals, plan


def test_arrivals_are_a_poisson_process() -> None:
    times = list(arrivals(5.0, 2000.0, Random(1)))
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert len(times) == pytest.approx(10_000, rel=0.05)  # five deviations of a Poisson count
    assert statistics.pstdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.05)  # exponential gaps
    counts = [sum(second <= at_s < second + 1 for at_s in times[:1000]) for second in range(150)]
    assert statistics.pvariance(counts) == pytest.approx(statistics.fmean(counts), rel=0.5)


def test_arrivals_stay_in_the_window_and_in_order() -> None:
    times = [request.at_s for request in plan(50, 3.0, 0, AudioLength(1, 2))]
    assert times == sorted(times)
    assert 0 <= times[0] and times[-1] < 3.0


def test_same_seed_same_plan() -> None:
    length = AudioLength(1, 8)
    assert plan(2, 30, 7, length, 3) == plan(2, 30, 7, length, 3)
    assert plan(2, 30, 7, length, 3) != plan(2, 30, 8, length, 3)


def test_audio_lengths_fill_their_range() -> None:
    lengths = [request.max_audio_s for request in plan(50, 20, 0, AudioLength(2, 6))]
    assert 2 <= min(lengths) < 2.2 and 5.8 < max(lengths) <= 6
    assert statistics.fmean(lengths) == pytest.approx(4, abs=0.2)


def test_requests_continue_conversations_only_where_there_are_some() -> None:
    assert {request.conversation for request in plan(50, 5, 0, AudioLength(1, 1))} == {None}
    assert {request.conversation for request in plan(50, 5, 0, AudioLength(1, 1), 3)} == {0, 1, 2}


@pytest.mark.parametrize(("text", "length"), [("3", AudioLength(3, 3)), ("1:8.5", AudioLength(1, 8.5))])
def test_audio_length_reads_one_value_or_a_range(text: str, length: AudioLength) -> None:
    assert AudioLength.parse(text) == length


@pytest.mark.parametrize("text", ["", "0", "5:2", "1:1000", "nan", "a:b"])
def test_wrong_audio_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        AudioLength.parse(text)
