"""Which prompts share a prefill pass, and how large a pass may be. Without a model."""

from __future__ import annotations

import pytest

from csm_engine.kv.offload_index import OffloadIndex
from csm_engine.kv.prefix import Prefix
from csm_engine.kv.slot_pool import SlotPool
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS
from csm_engine.scheduling.prefill_budget import PrefillBudget
from csm_engine.scheduling.scheduler import Scheduler
from csm_engine.scheduling.sequence import Sequence
from tests.csm_engine.scheduling.small_schedulers import no_limits, run_pass, sequence


def wide_scheduler(prefill_chunk: int = 256, num_slots: int = 32) -> Scheduler:
    """A scheduler whose passes have room for many prompts."""
    return Scheduler(SlotPool(num_slots), max_waiting=99, prefill_chunk=prefill_chunk, pacing=no_limits())


def admit_all(policy: Scheduler) -> list[Sequence]:
    """The sequences that are admitted at the same time."""
    items = []
    while (news := policy.admit()) is not None:
        items.append(news[0])
    return items


def added(policy: Scheduler, *rows: int) -> list[Sequence]:
    items = [sequence(count) for count in rows]
    for item in items:
        policy.add(item)
    return items


def test_prompts_that_wait_together_share_a_pass_of_bounded_rows() -> None:
    """In whole tiles of 16 rows; the last row of a prompt is not prefilled."""
    policy = wide_scheduler(prefill_chunk=64)
    items = added(policy, 18, 10, 17, 5, 5)
    assert admit_all(policy) == items[:3], "32, 16 and 16 rows"
    assert [chunk.length for chunk in run_pass(policy)] == [17, 9, 16]
    assert policy.running == items[:3]
    admit_all(policy)
    assert [chunk.sequence for chunk in run_pass(policy)] == items[3:]


def test_a_prompt_joins_a_pass_with_its_whole_chunk_or_not_at_all() -> None:
    policy = wide_scheduler(prefill_chunk=64)
    short, long = added(policy, 20, 101)
    admit_all(policy)
    chunks = [[(chunk.sequence, chunk.start, chunk.length) for chunk in run_pass(policy)] for _ in range(3)]
    assert chunks == [[(short, 0, 19)], [(long, 0, 64)], [(long, 64, 36)]]


def test_a_long_prompt_is_not_overtaken_and_its_end_shares_its_pass() -> None:
    policy = wide_scheduler(prefill_chunk=64)
    long, short = added(policy, 81, 9)
    assert admit_all(policy) == [long], "its chunk fills the pass"
    run_pass(policy)
    assert admit_all(policy) == [short]
    assert [chunk.sequence for chunk in run_pass(policy)] == [long, short]


def test_prompts_of_a_pass_are_bounded_even_if_they_need_no_rows() -> None:
    policy = wide_scheduler()
    items = added(policy, *[1] * (MAX_PREFILL_PROMPTS + 3))
    admit_all(policy)
    assert [chunk.sequence for chunk in run_pass(policy)] == items[:MAX_PREFILL_PROMPTS]
    assert len(policy.running) == MAX_PREFILL_PROMPTS


def test_prompts_share_a_pass_only_while_running_sequences_have_lead() -> None:
    policy = wide_scheduler()
    (playing,) = added(policy, 2)
    admit_all(policy)
    run_pass(policy)
    playing.steps_launched, playing.first_frame_at = 10, 0.0  # 0.8 s are made
    policy.prefill_budget.observe(32, 0.32)  # 10 ms a row
    items = added(policy, 11, 11, 11)
    admit_all(policy)
    assert [chunk.sequence for chunk in run_pass(policy, now=0.3)] == items[:2], "0.5 s are left, 0.25 s may be used"
    added(policy, 11)
    admit_all(policy)
    assert len(run_pass(policy, now=2.0)) == 1, "it is late already; the first prompt goes on nevertheless"


def test_a_stream_before_its_first_frame_does_not_limit_shared_passes() -> None:
    policy = wide_scheduler()
    (unheard,) = added(policy, 2)
    admit_all(policy)
    run_pass(policy)
    policy.prefill_budget.observe(32, 0.32)  # 10 ms a row
    for frames_on_their_way in (0, 1):
        unheard.steps_launched = frames_on_their_way
        items = added(policy, 11, 11, 11)
        admit_all(policy)
        assert [chunk.sequence for chunk in run_pass(policy)] == items


def test_a_prompt_does_not_wait_for_a_prefix_that_it_can_copy_now() -> None:
    policy = wide_scheduler()
    first, second, third = sequence(40), sequence(60), sequence(60)
    for item in (second, third):
        item.prompt.rows[:39] = first.prompt.rows[:39]  # 39 rows in common, and different ends
    policy.add(first)
    admit_all(policy)
    run_pass(policy)
    policy.add(second)
    policy.add(third)
    assert admit_all(policy) == [second, third]
    assert [(item.reused, item.restored) for item in (second, third)] == 2 * [(39, 0)]


@pytest.mark.parametrize("held", [0, 20])
def test_a_prompt_waits_if_that_saves_it_16_rows_and_not_for_15(held: int) -> None:
    """held: rows that it can copy now."""
    for saved in (15, 16):
        policy = wide_scheduler()
        before, first, second = sequence(held + 1), sequence(60), sequence(60)
        first.prompt.rows[:held] = before.prompt.rows[:held]
        second.prompt.rows[: held + saved] = first.prompt.rows[: held + saved]
        policy.add(before)
        admit_all(policy)
        run_pass(policy)
        policy.add(first)
        policy.add(second)
        assert admit_all(policy) == ([first] if saved == 16 else [first, second])


@pytest.mark.parametrize("kept", [39, 24, 23])
def test_a_prompt_does_not_wait_for_a_prefix_that_host_memory_has(kept: int) -> None:
    """It restores that at once. kept: rows there, of 39 that a prompt in prefill will leave; 16 fewer are too few."""
    index = OffloadIndex(1000, 1)
    pool = SlotPool(32, offload_index=index)
    policy = Scheduler(pool, max_waiting=99, prefill_chunk=256, pacing=no_limits())
    first, second = sequence(60), sequence(60)
    second.prompt.rows[:39] = first.prompt.rows[:39]
    policy.add(first)
    admit_all(policy)
    index.keep(Prefix(first.prompt.rows[:kept]))
    policy.add(second)
    assert admit_all(policy) == ([second] if kept > 23 else [])
    assert second.restored == (kept if kept > 23 else 0)


def test_the_next_prompt_waits_for_the_last_one_and_copies_its_prefix() -> None:
    policy = wide_scheduler(prefill_chunk=64)
    first, second = sequence(97), sequence(97)
    second.prompt = first.prompt
    for item in (first, second):
        policy.add(item)
    assert admit_all(policy) == [first]
    assert run_pass(policy)[0].length == 64
    assert admit_all(policy) == [], "a third of the first prompt is missing"
    run_pass(policy)
    news = policy.admit()
    assert news is not None and news[0] is second
    assert (news[1].copy_from, news[1].reused, second.rows_to_prefill) == (first.slot, 96, 0)


def test_a_prompt_waits_for_the_common_rows_and_not_for_the_whole_prompt_that_has_them() -> None:
    policy = wide_scheduler(prefill_chunk=64)
    long, short = sequence(97), sequence(60)
    short.prompt.rows[:40] = long.prompt.rows[:40]
    for item in (long, short):
        policy.add(item)
    assert admit_all(policy) == [long]
    run_pass(policy)
    assert admit_all(policy) == [short] and short.reused == 40
    assert [chunk.sequence for chunk in run_pass(policy)] == [long, short], "they go on together"


def test_seconds_per_row_follow_the_measurements() -> None:
    budget = PrefillBudget()
    assert budget.allows(10**6, least_lead_s=0.0), "nothing is known yet"
    budget.observe(0, 5.0)
    budget.observe(100, 0.1)
    assert budget.allows(100, 0.2) and not budget.allows(101, 0.2)
    assert budget.allows(10**6, None), "no stream plays"
    for _ in range(60):
        budget.observe(100, 0.2)
    assert budget.allows(99, 0.4) and not budget.allows(110, 0.4)
    assert budget.allows(0, -1.0) and not budget.allows(1, -1.0)
