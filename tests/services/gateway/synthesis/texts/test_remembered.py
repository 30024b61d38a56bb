"""Which earlier sentences of a text are context of the next one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from csm.rvq.v1 import rvq_pb2

from services.gateway.synthesis.plan import ContextTurn
from services.gateway.synthesis.texts.remembered import RememberedSentences, context_rule


def contexts(most: int, frame_counts: list[int]) -> list[list[int]]:
    """For each sentence, and for one more after them: the numbers of the sentences that are its context."""
    remembered, found = RememberedSentences(most), list[list[int]]()
    for number, count in enumerate([*frame_counts, 1]):
        found.append([int(turn.text) for turn in remembered.turns])
        remembered.add(ContextTurn(0, str(number), codes=rvq_pb2.CodeFrames(frame_count=count)))
    return found


def test_the_context_grows_to_its_maximum_and_restarts_with_the_last_sentence() -> None:
    assert contexts(3, [9] * 7) == [[], [0], [0, 1], [0, 1, 2], [3], [3, 4], [3, 4, 5], [6]]


@pytest.mark.parametrize("most", range(7))
def test_each_context_begins_with_the_one_before_or_is_one_sentence(most: int) -> None:
    found = contexts(most, [5] * 40)
    anew = [later for earlier, later in pairwise(found) if later[: len(earlier)] != earlier or not later]
    assert max(map(len, found)) == most
    assert all(len(context) == min(1, most) for context in anew)
    assert most == 0 or len(anew) == (40 - 1) // most
    assert all(context[-1:] == [number - 1][: len(context)] for number, context in enumerate(found))


def test_sentences_without_sound_do_not_count() -> None:
    assert contexts(2, [0, 4, 0, 0, 1, 2, 0, 3]) == [[], [], [1], [1], [1], [1, 4], [5], [5], [5, 7]]


def test_the_digest_s_rule_is_that_of_the_contexts_and_never_a_number_alone() -> None:
    """A plain number meant a sliding context in earlier versions."""
    for most in range(7):
        later = [len(context) for context in contexts(most, [5] * 40)][most + 1 :]
        assert context_rule(most) == [min(later), max(later)]
