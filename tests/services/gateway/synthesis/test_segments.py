"""The engine's segments for turns of context, some of which were spoken as several utterances."""

from __future__ import annotations

import pytest

from services.gateway.synthesis.plan import ContextTurn
from services.gateway.synthesis.segments import answer_codes, dropped_turns, segments_of, turn_indices
from tests.support.fake_stages import CODEBOOKS, fake_frames
from tests.support.text_streams import fake_answer

TURNS = (
    ContextTurn(0, "Hello?"),
    ContextTurn(1, "One. Two.", codes=fake_answer(("One.", 3), ("Two.", 5))),
    ContextTurn(0, "A recording.", codes=fake_frames(0, 4)),
    ContextTurn(1, "Three.", codes=fake_answer(("Three.", 2))),
)


def test_an_answer_is_as_many_segments_as_it_has_utterances() -> None:
    segments = segments_of(TURNS)
    said = [(segment.speaker_id, segment.text, segment.codes.frame_count) for segment in segments]
    assert said == [(0, "Hello?", 0), (1, "One.", 3), (1, "Two.", 5), (0, "A recording.", 4), (1, "Three.", 2)]
    assert not segments[0].HasField("codes")
    assert [segment.codes for segment in segments[1:]] == [fake_frames(0, count) for count in (3, 5, 4, 2)]


def test_utterances_without_sound_are_no_segments() -> None:
    codes = fake_answer(("One.", 0), ("Two.", 4), ("Three.", 0), ("Four.", 1))
    (turn,) = [ContextTurn(0, "One. Two. Three. Four.", codes=codes)]
    assert [(segment.text, segment.codes.frame_count) for segment in segments_of([turn])] == [("Two.", 4), ("Four.", 1)]


@pytest.mark.parametrize(("segments", "turns"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (9, 4)])
def test_a_turn_that_lost_a_segment_counts_as_dropped(segments: int, turns: int) -> None:
    assert dropped_turns(TURNS, segments) == turns
    assert turn_indices(TURNS) == [0, 1, 1, 2, 3]


def test_codes_of_an_answer_are_those_of_its_utterances_in_order() -> None:
    utterances = [("One.", 3), ("Two.", 0), ("Three.", 5)]
    made = [(text, fake_frames(0, count)) for text, count in utterances]
    assert answer_codes(made, CODEBOOKS) == fake_answer(*utterances)
