"""Simulated playback, with times that floating point represents exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.listeners.playback import Arrival, Playback, Stall, play


def playback_of(arrivals: list[Arrival], buffer_s: float = 0.0) -> Playback:
    playback = play(arrivals, buffer_s)
    assert playback is not None
    return playback


def test_no_audio_is_no_playback() -> None:
    assert play([]) is None


def test_playback_starts_when_the_first_audio_arrives() -> None:
    playback = playback_of([Arrival(2.0, 0.5), Arrival(2.25, 0.5)])
    assert (playback.started_at_s, playback.audio_s, playback.stalls) == (2.0, 1.0, ())


def test_audio_that_comes_exactly_when_the_last_was_played_is_in_time() -> None:
    playback = playback_of([Arrival(1.0, 0.5), Arrival(1.5, 0.5), Arrival(2.0, 0.5)])
    assert playback.stalls == ()


def test_late_audio_is_an_underrun_as_long_as_the_silence() -> None:
    playback = playback_of([Arrival(1.0, 0.5), Arrival(1.75, 0.5), Arrival(2.0, 0.5), Arrival(4.0, 0.5)])
    assert playback.stalls == (Stall(0.5, 0.25), Stall(1.5, 1.25))
    assert playback.stalled_s == 1.5


def test_a_stall_delays_the_rest_of_the_playback() -> None:
    late_twice = playback_of([Arrival(0.0, 0.5), Arrival(1.0, 0.5), Arrival(1.25, 0.5), Arrival(2.0, 0.5)])
    assert late_twice.stalls == (Stall(0.5, 0.5),)


def test_a_jitter_buffer_absorbs_gaps_up_to_its_length() -> None:
    arrivals = [Arrival(1.0, 0.5), Arrival(1.75, 0.5)]
    just_long_enough, too_short = playback_of(arrivals, 0.25), playback_of(arrivals, 0.125)
    assert (just_long_enough.started_at_s, just_long_enough.stalls) == (1.25, ())
    assert too_short.stalls == (Stall(0.5, 0.125),)


def test_a_sample_is_heard_after_the_stalls_before_it() -> None:
    playback = playback_of([Arrival(1.0, 0.5), Arrival(2.0, 0.5)])
    assert [playback.heard_at_s(position_s) for position_s in (0.0, 0.25, 0.5, 0.75)] == [1.0, 1.25, 2.0, 2.25]


@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(1, 64)), min_size=1, max_size=20),
    st.integers(0, 64),
)
def test_playback_lasts_as_long_as_audio_and_silence(gaps: list[tuple[int, int]], buffer: int) -> None:
    """Compared with a simulation in steps of 1/64 s."""
    arrivals, at = [], 0
    for gap, length in gaps:
        at += gap
        arrivals.append(Arrival(at / 64, length / 64))
    playback = playback_of(arrivals, buffer / 64)

    step = round(arrivals[0].at_s * 64) + buffer
    played = silent = underruns = 0
    was_silent = False
    total = sum(length for _, length in gaps)
    while played < total:
        received = sum(round(arrival.audio_s * 64) for arrival in arrivals if arrival.at_s * 64 <= step)
        if received > played:
            played, was_silent = played + 1, False
        else:
            underruns += not was_silent
            silent, was_silent = silent + 1, True
        step += 1
    assert (len(playback.stalls), round(playback.stalled_s * 64)) == (underruns, silent)


def test_heard_at_may_be_called_in_any_order() -> None:
    playback = playback_of([Arrival(0.0, 1.0), Arrival(3.0, 1.0)])
    assert playback.heard_at_s(1.5) == pytest.approx(3.5)
    assert playback.heard_at_s(0.5) == pytest.approx(0.5)
