"""A prompt's chunks between the steps of running sequences. Without a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csm_engine.kv.slot_pool import SlotPool
from csm_engine.scheduling.pacing import Pacing
from csm_engine.scheduling.scheduler import FrameBatch, PrefillBatch, Scheduler
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from tests.csm_engine.scheduling.small_schedulers import run_prefill, scheduler, sequence


def one_runs_and_a_long_prompt_waits() -> tuple[Scheduler, Sequence]:
    """A scheduler, and its running sequence."""
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


def test_a_prompt_goes_first_while_running_sequences_have_lead() -> None:
    policy, running = one_runs_and_a_long_prompt_waits()
    running.steps_launched, running.first_frame_at = 10, 0.0  # 0.8 s are made, and none is played yet
    chunks = [run_prefill(policy) for _ in range(3)]
    assert [chunk.start for chunk in chunks] == [0, 4, 8]
    assert policy.next_work(now=0.7) == FrameBatch([running])  # 0.1 s are left
    assert isinstance(policy.next_work(now=0.7), PrefillBatch)


def test_a_prompt_is_prefilled_while_running_sequences_are_paused() -> None:
    pacing = Pacing(
        max_rows=8, saturation_batch=8, max_playout_lead_s=0.2
    )  # they pause with less lead than counts as urgent
    policy = Scheduler(SlotPool(2), max_waiting=1, prefill_chunk=4, pacing=pacing)
    running, long = live_sequence(2), sequence(20)
    policy.add(running)
    policy.admit()
    run_prefill(policy)
    running.steps_launched, running.first_frame_at = 2, 0.0
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
