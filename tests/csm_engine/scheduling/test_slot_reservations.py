"""The place that is kept for a text between two of its sentences. Without a model."""

from __future__ import annotations

from dataclasses import replace

from csm_engine.scheduling.sequence import Sequence
from csm_engine.scheduling.slot_reservations import RESERVATION_SECONDS
from tests.csm_engine.scheduling.small_schedulers import admitted, scheduler, sequence

NOW = 64.0  # seconds


def followed(rows: int = 5) -> Sequence:
    """A sentence that is followed by another one of its text."""
    item = sequence(rows)
    item.request = replace(item.request, is_followed=True)
    return item


def test_a_text_keeps_its_slot_between_two_sentences() -> None:
    policy = scheduler(num_slots=2, max_waiting=4)
    texts, newcomers = [followed(), followed()], [sequence(), sequence()]
    for item in (*texts, *newcomers):
        policy.add(item)
    assert admitted(policy) == texts
    for item in texts:
        policy.end(item, NOW)
    assert admitted(policy) == [], "who is new waits"
    following = [sequence(has_listener=True), followed()]
    for item in following:
        item.request = replace(item.request, has_listener=True)
        policy.add(item)
    assert admitted(policy) == following
    policy.end(following[0], NOW)
    assert admitted(policy) == newcomers[:1], "nothing follows the last sentence"
    policy.end(following[1], NOW)
    assert admitted(policy) == []


def test_an_unclaimed_reservation_expires() -> None:
    policy = scheduler(num_slots=1, max_waiting=0)
    policy.add(text := followed())
    assert admitted(policy) == [text]
    policy.end(text, NOW)
    assert policy.next_wakeup(NOW) is None
    policy.add(newcomer := sequence())
    assert admitted(policy) == [], "it is not refused, though nobody may wait"
    assert policy.next_wakeup(NOW) == RESERVATION_SECONDS
    assert policy.next_wakeup(NOW + 0.75 * RESERVATION_SECONDS) == 0.25 * RESERVATION_SECONDS
    assert policy.next_wakeup(NOW + RESERVATION_SECONDS) == 0
    assert admitted(policy) == [newcomer]


def test_a_reservation_expires_also_for_a_loop_that_never_asks_when_to_wake_up() -> None:
    policy = scheduler(num_slots=1)
    policy.add(text := followed())
    assert admitted(policy) == [text]
    policy.end(text, NOW)
    policy.add(newcomer := sequence())
    assert policy.next_work(NOW + 0.75 * RESERVATION_SECONDS) is None and admitted(policy) == []
    assert policy.next_work(NOW + RESERVATION_SECONDS) is None and admitted(policy) == [newcomer]


def test_a_cancelled_text_keeps_no_slot() -> None:
    policy = scheduler(num_slots=1)
    text, newcomer = followed(), sequence()
    for item in (text, newcomer):
        policy.add(item)
    assert admitted(policy) == [text]
    policy.remove(text)
    assert admitted(policy) == [newcomer]
