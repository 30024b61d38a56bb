"""Policy of slots and turns, without a model."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from csm_bundle.errors import EngineBusyError
from csm_engine.kv.slot_pool import SlotPool
from csm_engine.model.prompt import Prompt
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.kept_places import KEPT_SECONDS
from csm_engine.scheduling.pacing import Pacing
from csm_engine.scheduling.scheduler import FrameBatch, PrefillBatch, PrefillChunk, Scheduler
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.types import FinishReason, GenerationRequest, Segment

_TEXTS = itertools.count()
NOW = 64.0  # seconds


def sequence(rows: int = 5, *, has_listener: bool = False, playout_lead_s: float = 0.0) -> Sequence:
    text = np.zeros((rows, 3), np.int64)
    text[:, -1] = next(_TEXTS)  # no two prompts alike
    prompt = Prompt(text, np.ones((rows, 3), np.bool_), text_token_count=rows)
    request = GenerationRequest(
        "r", [Segment(0, "x")], max_frames=9, has_listener=has_listener, playout_lead_s=playout_lead_s
    )
    return Sequence(request, prompt)


def scheduler(*, num_slots: int = 2, max_waiting: int = 1) -> Scheduler:
    return Scheduler(SlotPool(num_slots), max_waiting=max_waiting, prefill_chunk=4, pacing=no_limits())


def no_limits() -> Pacing:
    return Pacing(max_rows=8, saturation_batch=8, max_playout_lead_s=0.0)


def admitted(policy: Scheduler) -> list[Sequence]:
    """All that get a slot when each prompt is prefilled before the next comes."""
    items = []
    while (news := policy.admit()) is not None:
        items.append(news[0])
        while news[0].status is SequenceStatus.PREFILLING:
            run_prefill(policy)
    return items


def run_prefill(policy: Scheduler) -> PrefillChunk:
    """The next chunk, alone in its pass, and the frame step before it if there is one."""
    (chunk,) = run_pass(policy)
    return chunk


def run_pass(policy: Scheduler, now: float = 0.0) -> list[PrefillChunk]:
    """The chunks of the next pass, and the frame step before it if there is one."""
    work = policy.next_work(now)
    if isinstance(work, FrameBatch):
        work = policy.next_work(now)
    assert isinstance(work, PrefillBatch)
    policy.prefilled(work)
    return work.chunks


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


def followed(rows: int = 5) -> Sequence:
    """A sentence of a text that goes on."""
    item = sequence(rows)
    item.request = replace(item.request, is_followed=True)
    return item


def test_a_stream_between_two_sentences_keeps_its_place() -> None:
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


def test_a_kept_place_to_which_nobody_comes_is_given_up() -> None:
    policy = scheduler(num_slots=1, max_waiting=0)
    policy.add(text := followed())
    assert admitted(policy) == [text]
    policy.end(text, NOW)
    assert policy.next_wakeup(NOW) is None
    policy.add(newcomer := sequence())
    assert admitted(policy) == [], "it is not refused, though nobody may wait"
    assert policy.next_wakeup(NOW) == KEPT_SECONDS
    assert policy.next_wakeup(NOW + 0.75 * KEPT_SECONDS) == 0.25 * KEPT_SECONDS
    assert policy.next_wakeup(NOW + KEPT_SECONDS) == 0
    assert admitted(policy) == [newcomer]


def test_a_text_that_its_caller_cancels_keeps_no_place() -> None:
    policy = scheduler(num_slots=1)
    text, newcomer = followed(), sequence()
    for item in (text, newcomer):
        policy.add(item)
    assert admitted(policy) == [text]
    policy.remove(text)
    assert admitted(policy) == [newcomer]


def test_room_is_asked_for_before_a_sequence_is_there() -> None:
    policy = scheduler(num_slots=2, max_waiting=1)
    policy.add(sequence())
    policy.check_room(1, has_listener=False)
    with pytest.raises(EngineBusyError, match="0 sequences run and 3 wait; at most 1 may wait"):
        policy.check_room(2, has_listener=False)
    policy.check_room(4, has_listener=True)
    assert len(policy.waiting) == 1


def test_who_has_a_place_keeps_it_when_listeners_overtake() -> None:
    policy = scheduler(num_slots=1, max_waiting=1)
    policy.add(sequence())
    assert len(admitted(policy)) == 1
    policy.check_room(has_listener=False)
    listener, accepted = sequence(has_listener=True), sequence()
    policy.add(listener)
    with pytest.raises(EngineBusyError):
        policy.check_room(has_listener=False)
    policy.add(accepted, has_place=True)
    assert list(policy.waiting) == [listener, accepted]


def test_queue_is_bounded_before_anyone_is_admitted() -> None:
    policy = scheduler(num_slots=2, max_waiting=1)
    for _ in range(3):
        policy.add(sequence())
    with pytest.raises(EngineBusyError):
        policy.add(sequence())


def test_those_with_a_listener_go_first_and_each_kind_in_its_order() -> None:
    policy = scheduler(num_slots=4, max_waiting=4)
    without = [sequence() for _ in range(2)]
    having = [sequence(has_listener=True) for _ in range(2)]
    for item in (without[0], having[0], without[1], having[1]):
        policy.add(item)
    assert admitted(policy) == having + without


def test_the_listener_that_falls_silent_first_goes_first() -> None:
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


def test_those_without_a_listener_take_no_place_of_those_with_one() -> None:
    policy = scheduler(num_slots=1, max_waiting=2)
    policy.add(running := sequence())
    admitted(policy)
    for has_listener, most in ((False, 2), (True, 3)):  # as many more as a lost engine may have run
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


def one_runs_and_a_long_prompt_waits() -> tuple[Scheduler, Sequence]:
    """A scheduler, and the sequence that runs in it."""
    policy = scheduler()
    running, long = sequence(2), sequence(20)
    policy.add(running)
    policy.admit()
    run_prefill(policy)
    policy.add(long)
    policy.admit()
    return policy, running


def test_no_running_sequence_waits_for_more_than_one_chunk() -> None:
    policy, _ = one_runs_and_a_long_prompt_waits()
    kinds = []
    for _ in range(6):
        work = policy.next_work(now=0.0)
        kinds.append(type(work))
        if isinstance(work, PrefillBatch):
            assert work.num_rows <= 4
            policy.prefilled(work)
    assert kinds == [FrameBatch, PrefillBatch] * 3 or kinds == [PrefillBatch, FrameBatch] * 3


def test_prompt_goes_first_while_those_who_run_have_enough_to_be_heard() -> None:
    policy, running = one_runs_and_a_long_prompt_waits()
    running.launched, running.first_frame_at = 10, 0.0  # 0.8 s are made and none is played
    chunks = [run_prefill(policy) for _ in range(3)]
    assert [chunk.start for chunk in chunks] == [0, 4, 8]
    assert policy.next_work(now=0.7) == FrameBatch([running])  # 0.1 s are left
    assert isinstance(policy.next_work(now=0.7), PrefillBatch)


def test_prompt_is_prefilled_while_those_who_run_rest() -> None:
    pacing = Pacing(max_rows=8, saturation_batch=8, max_playout_lead_s=0.2)  # they rest with less than is called little
    policy = Scheduler(SlotPool(2), max_waiting=1, prefill_chunk=4, pacing=pacing)
    running, long = live_sequence(2), sequence(20)
    policy.add(running)
    policy.admit()
    run_prefill(policy)
    running.launched, running.first_frame_at = 2, 0.0
    assert policy.next_work(now=0.0) is None
    assert policy.next_wakeup(now=0.0) == pytest.approx(0.06)
    policy.add(long)
    policy.admit()
    assert policy.next_wakeup(now=0.0) == 0
    assert [run_prefill(policy).start for _ in range(2)] == [0, 4]


def live_sequence(rows: int) -> Sequence:
    item = sequence(rows)
    item.request = replace(item.request, live=True)
    return item


def test_prefill_covers_all_rows_but_the_last_exactly_once() -> None:
    policy = scheduler()
    long = sequence(11)
    policy.add(long)
    policy.admit()
    chunks = [run_prefill(policy) for _ in range(3)]
    assert [(chunk.start, chunk.length) for chunk in chunks] == [(0, 4), (4, 4), (8, 2)]
    assert long.status is SequenceStatus.RUNNING
    assert policy.next_work(now=0.0) == FrameBatch([long])


def test_one_row_prompt_runs_at_once() -> None:
    policy = scheduler()
    policy.add(sequence(1))
    policy.admit()
    assert run_prefill(policy).length == 0
    assert isinstance(policy.next_work(now=0.0), FrameBatch)


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


def test_budget_keeps_streams_waiting_and_then_out_although_slots_are_free() -> None:
    budget = RealTimeBudget(0.5)
    policy = Scheduler(SlotPool(8), max_waiting=1, prefill_chunk=4, pacing=no_limits(), budget=budget)
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


def test_queue_is_bounded_by_what_the_budget_admits_and_not_by_free_slots() -> None:
    budget = RealTimeBudget(0.5)
    policy = Scheduler(SlotPool(8), max_waiting=1, prefill_chunk=4, pacing=no_limits(), budget=budget)
    policy.add(sequence())
    admitted(policy)
    budget.observe(1, 0.015)  # two such rows take 30 of 40 ms
    for _ in range(2):
        policy.add(sequence())  # one that is admitted next, and one that waits
    with pytest.raises(EngineBusyError, match="1 sequences run and 2 wait"):
        policy.add(sequence())
    assert len(admitted(policy)) == 1 and len(policy.waiting) == 1


def test_a_thread_that_sees_that_a_sequence_has_ended_sees_why() -> None:
    class Watched(Sequence):
        def __setattr__(self, name: str, value: object) -> None:
            assert value is not SequenceStatus.FINISHED or self.finish_reason is FinishReason.CANCELLED
            super().__setattr__(name, value)

    item = sequence()
    watched = Watched(item.request, item.prompt)
    watched.finish(FinishReason.CANCELLED)
    assert watched.status is SequenceStatus.FINISHED
