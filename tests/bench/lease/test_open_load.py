"""The requests of a load and their times, and the figures of its streams. No engine."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from bench.lease.streams.open_load import Load, figures_of, planned, playback_of, request_of
from bench.lease.streams.running_engine import Stream
from csm_bundle.errors import EngineBusyError
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest, Segment

LOAD = Load(streams=200, warm_s=4.0, window_s=16.0, mean_frames=50)


def stream(arrived_at_s: list[float], ended_at_s: float | None = None, error: Exception | None = None) -> Stream:
    made = Stream(GenerationRequest("a", [Segment(0, "Hi.")], 10), 0.0)
    made.arrived_at_s, made.ended_at_s, made.sequence = arrived_at_s, ended_at_s, Future[Sequence]()
    if error is not None:
        made.sequence.set_exception(error)
    return made


def test_requests_come_at_the_rate_that_holds_the_wanted_streams() -> None:
    plan = planned(LOAD)
    seconds = LOAD.warm_s + LOAD.window_s
    assert [item.at_s for item in plan] == sorted(item.at_s for item in plan)
    assert len(plan) == pytest.approx(LOAD.streams + seconds * LOAD.streams / (50 * 0.08), rel=0.1)
    running = [item for item in plan if item.at_s <= 12.0 < item.at_s + item.frames * 0.08]
    assert len(running) == pytest.approx(LOAD.streams, rel=0.2)


def test_the_same_load_gives_the_same_plan() -> None:
    assert planned(LOAD) == planned(LOAD)


def test_each_request_has_a_unique_context() -> None:
    load = Load(
        streams=2, warm_s=1.0, window_s=1.0, mean_frames=10, context_frames=5, num_codebooks=8, codebook_size=64
    )
    first, second = (request_of(load, number, 10).segments[0].codes for number in (0, 1))
    assert first is not None and second is not None and first.shape == (5, 8) and (first != second).any()


def test_a_stream_that_ends_starved_has_an_underrun() -> None:
    starved = playback_of(stream([1.0, 1.05]), ended_s=2.0, buffer_s=0.0)
    assert starved is not None and starved.stalled_s == pytest.approx(2.0 - 1.16)
    ended = playback_of(stream([1.0, 1.05], ended_at_s=1.05), ended_s=2.0, buffer_s=0.0)
    assert ended is not None and not ended.stalls


def test_figures_count_refused_silent_and_stalled_streams() -> None:
    row = figures_of(
        [
            stream([0.1, 0.2, 0.25], ended_at_s=0.25),
            stream([0.3, 0.36], ended_at_s=0.4),
            stream([]),
            stream([], error=EngineBusyError("full")),
        ],
        ended_s=0.5,
    )
    assert (row["counted"], row["refused"], row["silent"]) == (4, 1, 1)
    assert row["ttfa_ms"] == {"p50": 100.0, "p95": 300.0, "max": 300.0}
    assert row["with_0_ms_buffer"] == {
        "streams_with_underrun": 1,
        "underruns": 1,
        "stalled_s": 0.02,
        "longest_stall_ms": 20.0,
    }
    buffered = row["with_160_ms_buffer"]
    assert isinstance(buffered, dict) and buffered["underruns"] == 0
