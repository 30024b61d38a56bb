"""Which sequences are in the next step, without a model and without a clock."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from csm_engine.model.prompt import Prompt
from csm_engine.scheduling.pacing import URGENT_PLAYOUT_LEAD_S, Pacing, playout_lead_s
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import GenerationRequest, Segment

NOW = 100.0
_NAMES = itertools.count()


def sequence(made: int, played: float | None = 0.0, *, live: bool = True, parts_of: int = 1) -> Sequence:
    """A sequence that has made that many frames, of which that many seconds are played; None: none has arrived."""
    prompt = Prompt(np.zeros((1, 3), np.int32), text_token_count=1)
    request = GenerationRequest(
        str(next(_NAMES)), [Segment(0, "x")], max_frames=999, live=live, listener_frames=parts_of
    )
    return Sequence(request, prompt, steps_launched=made, first_frame_at=None if played is None else NOW - played)


def ahead(seconds: float, *, live: bool = True, parts_of: int = 1) -> Sequence:
    return sequence(1000, 80.0 - seconds, live=live, parts_of=parts_of)


def pacing(*, saturation_batch: int = 4, max_playout_lead_s: float = 0.0) -> Pacing:
    return Pacing(max_rows=64, saturation_batch=saturation_batch, max_playout_lead_s=max_playout_lead_s)


def test_playout_lead_is_generated_minus_played_audio() -> None:
    assert abs(playout_lead_s(sequence(10, 0.5), NOW) - 0.3) < 1e-9
    assert playout_lead_s(sequence(0, None), NOW) == 0
    assert playout_lead_s(sequence(2, None), NOW) == 0.16  # they are on their way; playback has not begun


def continued(made: int, first_frame_ago_s: float | None, *, lead_s: float, arrived_ago_s: float = 1.0) -> Sequence:
    """A sequence that continues audio of which so much was left to play when it arrived: a later sentence of a text."""
    item = sequence(made, first_frame_ago_s)
    item.request = replace(item.request, has_listener=True, playout_lead_s=lead_s)
    item.arrived_at = NOW - arrived_ago_s
    return item


@pytest.mark.parametrize(
    ("made", "first_frame_ago_s", "lead_s", "expected"),
    [
        (0, None, 5.0, 4.0),  # audio of the sentences before
        (10, 0.5, 5.0, 4.8),  # all of its own audio comes after that
        (10, 0.5, 0.7, 0.5),  # 0.3 s of its own audio have been played
        (10, 0.5, -2.0, 0.3),  # it came too late, and is played as it arrives
        (0, None, -2.0, 0.0),
    ],
)
def test_playout_lead_of_a_later_sentence_includes_the_audio_before_it(
    made: int, first_frame_ago_s: float | None, lead_s: float, expected: float
) -> None:
    assert playout_lead_s(continued(made, first_frame_ago_s, lead_s=lead_s), NOW) == pytest.approx(expected)


def test_a_later_sentence_with_lead_does_not_precede_sequences_without() -> None:
    late = [ahead(0.1) for _ in range(8)]
    assert pacing(saturation_batch=4).choose([continued(0, None, lead_s=20.0), *late], NOW) == late


def test_the_limit_holds_for_all_sentences_of_a_text_together() -> None:
    policy = pacing(max_playout_lead_s=2.0)
    assert policy.choose([continued(0, None, lead_s=3.1)], NOW) == []
    assert policy.next_wakeup([continued(0, None, lead_s=3.1)], NOW) == pytest.approx(1.1)
    assert policy.choose([due := continued(0, None, lead_s=1.9)], NOW) == [due]


def test_fast_speech_is_played_sooner_than_it_is_spoken() -> None:
    item = sequence(10, 0.3)
    item.request = replace(item.request, speed=2.0)
    assert abs(playout_lead_s(item, NOW) - 0.1) < 1e-9


def test_all_sequences_run_while_none_is_urgent() -> None:
    crowd = [ahead(1.0 + i) for i in range(50)]
    assert pacing().choose(crowd, NOW) == crowd


def test_small_batches_run_whole_at_any_leads() -> None:
    crowd = [sequence(0, None), ahead(0.1), ahead(9.0), ahead(99.0)]
    assert pacing(saturation_batch=4).choose(crowd, NOW) == crowd


def test_a_first_frame_does_not_wait_for_sequences_with_lead() -> None:
    new = sequence(0, None)
    crowd = [ahead(5.0 + i) for i in range(40)]
    assert pacing(saturation_batch=4).choose([*crowd, new], NOW) == [*crowd[:3], new]


def test_opportunistic_rows_fill_the_bucket_in_order_of_lead() -> None:
    late = [ahead(URGENT_PLAYOUT_LEAD_S - 0.01 * i) for i in range(1, 6)]
    easy = [ahead(3.0), ahead(1.0), ahead(2.0), ahead(4.0)]
    chosen = pacing(saturation_batch=2).choose([*easy, *late], NOW)
    assert chosen == [easy[1], *late]  # five need the bucket of six


def test_a_step_contains_all_urgent_rows() -> None:
    late, easy = [ahead(0.05 * (i % 4)) for i in range(40)], [ahead(9.0) for _ in range(20)]
    chosen = pacing(saturation_batch=4).choose([*easy, *late], NOW)
    assert len(chosen) == 48 and chosen[8:] == late


def test_no_sequence_starves() -> None:
    """Twenty sequences on a device that fits four rows a step, one of them always new: none has an underrun."""
    policy, now, crowd = pacing(saturation_batch=4), NOW, [ahead(1.0) for _ in range(20)]
    for _ in range(400):
        new = sequence(0, None)
        chosen = policy.choose([*crowd, new], now)
        assert new in chosen
        for item in chosen:
            item.steps_launched += 1
        now += 0.08 / 8  # eight steps in the time of a frame: room for 24 rows beside the new ones
        assert min(playout_lead_s(item, now) for item in crowd) > 0


def test_live_sequences_pause_at_their_limit_and_offline_ones_never() -> None:
    policy = pacing(max_playout_lead_s=2.0)
    full, offline = ahead(2.0), ahead(50.0, live=False)
    assert policy.choose([full], NOW) == []
    assert policy.choose([full, offline], NOW) == [offline]
    assert pacing(max_playout_lead_s=0.0).choose([full], NOW) == [full]


def test_a_stream_of_long_chunks_is_never_paused() -> None:
    policy = pacing(max_playout_lead_s=1.6)
    short, long = ahead(1.7, parts_of=10), ahead(1.7, parts_of=11)  # half the limit is 10 frames
    assert policy.choose([short], NOW) == []
    assert policy.choose([short, long], NOW) == [long]


def test_fast_speech_shortens_chunks() -> None:
    policy = pacing(max_playout_lead_s=2.0)
    slow, fast = ahead(2.0, parts_of=20), sequence(1000, 38.0, parts_of=20)  # 1.6 s and, at twice the speed, 0.8 s
    fast.request = replace(fast.request, speed=2.0)
    assert policy.choose([fast], NOW) == []
    assert policy.choose([slow, fast], NOW) == [slow]


def test_sequences_over_half_their_limit_pause_until_one_needs_a_frame() -> None:
    policy = pacing(max_playout_lead_s=2.0)
    half, more, full = ahead(1.01), ahead(1.6), ahead(2.0)
    assert policy.choose([half, more, full], NOW) == []
    assert abs((policy.next_wakeup([half, more, full], NOW) or 0) - 0.01) < 1e-6
    assert policy.next_wakeup([half, more, full], NOW + 0.02) == 0
    assert policy.choose([half, more, ahead(2.05)], NOW + 0.02) == [half, more]


def test_next_wakeup_is_none_without_sequences_and_zero_for_a_first_frame() -> None:
    policy = pacing(max_playout_lead_s=2.0)
    assert policy.next_wakeup([], NOW) is None
    assert policy.next_wakeup([ahead(2.0), sequence(0, None)], NOW) == 0
