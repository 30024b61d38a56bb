"""The policy of slots and of the next step, without a model."""

from __future__ import annotations

import pytest

from csm_bundle.errors import EngineBusyError
from csm_engine.kv.slot_pool import SlotPool
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.scheduler import Scheduler
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.types import FinishReason
from tests.csm_engine.scheduling.small_schedulers import admitted, no_limits, run_prefill, scheduler, sequence


def test_first_come_first_served_and_queue_is_bounded() -> None:
    policy = scheduler(num_slots=1)
    first, second, third = sequence(), sequence(), sequence()
    policy.add(first)
    assert admitted(policy) == [first]
    policy.add(second)
    with pytest.raises(EngineBusyError, match="1 sequences run and 1 wait; at most 1 may wait"):
        policy.add(third)
    assert admitted(policy) == []
    policy.remove(first)
    assert admitted(policy) == [second]


def test_room_is_checked_before_a_sequence_exists() -> None:
    policy = scheduler(num_slots=2, max_waiting=1)
    policy.add(sequence())
    policy.check_room(range(1), has_listener=False)
    with pytest.raises(EngineBusyError, match="0 sequences run and 3 wait; at most 1 may wait"):
        policy.check_room(range(2), has_listener=False)
    policy.check_room(range(4), has_listener=True)
    assert len(policy.waiting) == 1


def test_a_place_in_the_queue_is_kept_when_listeners_overtake() -> None:
    policy = scheduler(num_slots=1, max_waiting=1)
    policy.add(sequence())
    assert len(admitted(policy)) == 1
    policy.check_room(has_listener=False)
    listener, accepted = sequence(has_listener=True), sequence()
    policy.add(listener)
    with pytest.raises(EngineBusyError):
        policy.check_room(has_listener=False)
    policy.add(accepted, lambda: None)
    assert list(policy.waiting) == [listener, accepted]


def test_the_queue_is_bounded_before_any_admission() -> None:
    policy = scheduler(num_slots=2, max_waiting=1)
    for _ in range(3):
        policy.add(sequence())
    with pytest.raises(EngineBusyError):
        policy.add(sequence())


def test_requests_with_a_listener_go_first_in_order_of_arrival() -> None:
    policy = scheduler(num_slots=4, max_waiting=4)
    without = [sequence() for _ in range(2)]
    having = [sequence(has_listener=True) for _ in range(2)]
    having[1].arrived_at = having[0].arrived_at
    for item in (without[0], having[0], without[1], having[1]):
        policy.add(item)
    assert admitted(policy) == having + without


def test_the_listener_whose_audio_ends_first_goes_first() -> None:
    policy = scheduler(num_slots=4, max_waiting=4)
    plays, is_silent = (sequence(has_listener=True, playout_lead_s=lead_s) for lead_s in (3.0, -20.0))
    policy.add(plays)
    policy.add(is_silent)
    later, last = (sequence(has_listener=True, playout_lead_s=lead_s) for lead_s in (0.5, 1.5))
    for item in (later, last):
        item.arrived_at += 2.0
    policy.add(last)
    policy.add(later)
    assert admitted(policy) == [is_silent, later, plays, last]


def test_requests_without_a_listener_take_no_place_from_those_with_one() -> None:
    policy = scheduler(num_slots=1, max_waiting=2)
    policy.add(running := sequence())
    admitted(policy)
    for has_listener, most in ((False, 2), (True, 3)):  # as many more as a lost engine may have had
        for _ in range(most):
            policy.add(sequence(has_listener=has_listener))
        with pytest.raises(EngineBusyError, match=f"1 sequences run and {most} wait; at most {most} may wait"):
            policy.add(sequence(has_listener=has_listener))
    with pytest.raises(EngineBusyError, match="5 wait; at most 2"):
        policy.add(sequence())
    policy.remove(running)
    assert [item.request.has_listener for item in policy.waiting] == [True] * 3 + [False] * 2


def test_slots_are_never_shared_and_come_back() -> None:
    policy = scheduler(num_slots=2, max_waiting=10)
    sequences = [sequence() for _ in range(4)]
    for item in sequences:
        policy.add(item)
    admitted(policy)
    assert sorted(item.slot for item in sequences[:2]) == [0, 1]  # type: ignore[type-var]
    policy.remove(sequences[0])
    policy.remove(sequences[0])
    assert admitted(policy) == [sequences[2]] and sequences[2].slot != sequences[1].slot


@pytest.mark.parametrize("stage", ["waiting", "prefilling", "running"])
def test_remove_frees_everything_from_every_stage(stage: str) -> None:
    policy = scheduler()
    item = sequence()
    policy.add(item)
    if stage != "waiting":
        policy.admit()
    if stage == "running":
        run_prefill(policy)
    policy.remove(item)
    assert not policy.has_work and policy.next_work(now=0.0) is None
    policy.add(sequence())
    policy.add(sequence())
    assert len(admitted(policy)) == 2


def test_the_budget_queues_and_then_refuses_streams_despite_free_slots() -> None:
    budget = RealTimeBudget(0.5)
    policy = Scheduler(SlotPool(8), max_waiting=1, prefill_chunk=4, pacing=no_limits(), frame_budget=budget)
    policy.add(sequence())
    assert len(admitted(policy)) == 1
    budget.observe(1, 0.03)  # two such rows would take 60 of 40 ms
    policy.add(sequence())
    assert admitted(policy) == []
    with pytest.raises(EngineBusyError):
        policy.add(sequence())
    for _ in range(50):
        budget.observe(1, 0.001)
    assert len(admitted(policy)) == 1


def test_the_budget_counts_sequences_in_prefill() -> None:
    budget = RealTimeBudget(0.5)
    policy = Scheduler(SlotPool(8), max_waiting=3, prefill_chunk=64, pacing=no_limits(), frame_budget=budget)
    budget.observe(1, 0.015)  # two such rows take 30 of 40 ms
    for _ in range(3):
        policy.add(sequence())
    assert [policy.admit() is not None for _ in range(3)] == [True, True, False]


def test_queue_is_bounded_by_what_the_budget_admits_and_not_by_free_slots() -> None:
    budget = RealTimeBudget(0.5)
    policy = Scheduler(SlotPool(8), max_waiting=1, prefill_chunk=4, pacing=no_limits(), frame_budget=budget)
    policy.add(sequence())
    admitted(policy)
    budget.observe(1, 0.015)  # two such rows take 30 of 40 ms
    for _ in range(2):
        policy.add(sequence())  # one is admitted next, and one waits
    with pytest.raises(EngineBusyError, match="1 sequences run and 2 wait"):
        policy.add(sequence())
    assert len(admitted(policy)) == 1 and len(policy.waiting) == 1


def test_a_thread_that_sees_an_ended_sequence_sees_its_outcome() -> None:
    class Watched(Sequence):
        def __setattr__(self, name: str, value: object) -> None:
            assert value is not SequenceStatus.FINISHED or self.finish_reason is FinishReason.CANCELLED
            super().__setattr__(name, value)

    item = sequence()
    watched = Watched(item.request, item.prompt)
    watched.finish(FinishReason.CANCELLED)
    assert watched.status is SequenceStatus.FINISHED
