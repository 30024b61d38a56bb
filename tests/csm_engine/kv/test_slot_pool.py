"""The policy of slots and of the prefixes that they keep, without a model."""

from __future__ import annotations

import numpy as np
import pytest

from csm_engine.kv.offload_index import OffloadedEntry, OffloadIndex, Page, RestoredEntry
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.model.prompt import Rows


def rows(*values: int) -> Rows:
    return np.array([[value, -1] for value in values], dtype=np.int32).reshape(-1, 2)


def test_no_more_than_num_slots_are_held() -> None:
    pool = SlotPool(2, 3)
    slots = [pool.acquire(rows(1, 2)).slot for _ in range(2)]
    assert len(set(slots)) == 2 and pool.num_free == 0
    pool.release(slots[0], rows())
    assert pool.num_free == 1


def test_a_conversation_continues_in_its_own_slot() -> None:
    pool = SlotPool(1, 1)
    first = pool.acquire(rows(1, 2, 3))
    pool.release(first.slot, rows(1, 2, 3, 9, 9))
    assert pool.acquire(rows(1, 2, 3, 9, 9, 4)) == Lease(first.slot, reused=5)


def test_shared_beginning_is_copied_and_kept_for_the_next() -> None:
    pool = SlotPool(2, 1)
    first = pool.acquire(rows(1, 2, 3))
    pool.release(first.slot, rows(1, 2, 3, 9))
    for text in (5, 6):
        lease = pool.acquire(rows(1, 2, text, text))
        assert lease.slot != first.slot
        assert (lease.reused, lease.copy_from) == (2, first.slot)


def test_last_row_is_never_reused() -> None:
    pool = SlotPool(1)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    assert pool.acquire(rows(1, 2, 3)).reused == 2


def held(pool: SlotPool, prompt: Rows) -> int:
    return pool.acquire(prompt).slot


def test_the_least_recently_used_slot_is_evicted_first() -> None:
    pool = SlotPool(1, 2)
    for value in (1, 2, 3):
        pool.release(held(pool, rows(value, 0)), rows(value, 0, value))
    slot = held(pool, rows(1, 0, 1, 8))  # 1 is used again, so it is the most recently used
    pool.release(slot, rows(1, 0, 1))
    pool.release(held(pool, rows(7, 0)), rows(7, 0))  # replaces 2
    assert pool.acquire(rows(2, 0, 2, 5)) == Lease(slot=pool_slot(pool, 3), reused=0)


def pool_slot(pool: SlotPool, value: int) -> int:
    """The slot whose kept prefix began with `value` before it was leased just now."""
    remembered = {int(memory.rows[0, 0]): slot for slot, memory in pool._idle.items()}
    assert value not in remembered
    return next(iter({0, 1, 2} - set(remembered.values())))


def test_reusing_the_matching_slot_needs_no_copy() -> None:
    pool = SlotPool(1)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    assert pool.acquire(rows(1, 9, 9)) == Lease(0, reused=1, copy_from=None)


def test_prompt_of_a_running_sequence_is_copied_once_it_is_there() -> None:
    pool = SlotPool(3)
    first = pool.acquire(rows(1, 2, 3, 4))
    assert pool.acquire(rows(1, 2, 9, 9)).reused == 0, "nothing of it is there yet"
    pool.filled(first.slot, rows(1, 2, 3))
    lease = pool.acquire(rows(1, 2, 8, 8))
    assert lease == Lease(lease.slot, reused=2, copy_from=first.slot) and lease.slot != first.slot


def test_a_held_slot_is_never_assigned_again() -> None:
    pool = SlotPool(2)
    first = pool.acquire(rows(1, 2, 3))
    pool.filled(first.slot, rows(1, 2))
    assert pool.acquire(rows(1, 2, 7)) == Lease(1 - first.slot, reused=2, copy_from=first.slot)


def test_an_idle_slot_is_reused_before_a_copy_of_its_rows() -> None:
    pool = SlotPool(2)
    first, second = pool.acquire(rows(1, 2, 3)), pool.acquire(rows(1, 2, 3))
    pool.filled(first.slot, rows(1, 2))
    pool.release(second.slot, rows(1, 2))
    assert pool.acquire(rows(1, 2, 4)) == Lease(second.slot, reused=2)


def with_index(num_slots: int, positions: int) -> SlotPool:
    return SlotPool(num_slots, offload_index=OffloadIndex(positions * 10, bytes_per_position=10))


def test_evicted_slots_are_offloaded_and_restored() -> None:
    pool = with_index(1, 100)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    lease = pool.acquire(rows(7, 7))
    assert lease.offload == OffloadedEntry(ticket=0, length=3) and lease.restore is None
    pool.release(lease.slot, rows(7))
    back = pool.acquire(rows(1, 2, 3, 4))
    assert back.offload == OffloadedEntry(ticket=1, length=1)
    assert back.restore == RestoredEntry(ticket=0, length=3, dropped=(0,)) and back.reused == 3


def test_rows_already_in_the_slot_are_not_restored() -> None:
    pool = with_index(2, 100)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    pool.release(held(pool, rows(5, 5)), rows(5))
    lease = pool.acquire(rows(8, 8))
    assert lease.offload is not None and lease.offload.length == 3  # 1, 2, 3 are in host memory
    pool.filled(lease.slot, rows(1, 2, 3))
    assert pool.acquire(rows(1, 2, 3, 4)).copy_from == lease.slot


@pytest.mark.parametrize("whole", [False, True])
def test_an_entry_being_restored_makes_no_room_for_the_evicted_rows(whole: bool) -> None:
    """Its prefix is saved first."""
    pool = with_index(1, 4)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    pool.release(held(pool, rows(7, 7)), rows(7, 7))
    lease = pool.acquire(rows(1, 2, 3, 9) if whole else rows(1, 2, 9, 9))
    dropped = (0,) if whole else ()
    assert lease == Lease(0, 3 if whole else 2, restore=RestoredEntry(0, 3 if whole else 2, dropped=dropped))


@pytest.mark.parametrize("page", [None, Page(4, 64)], ids=["positions", "pages"])
def test_host_memory_stays_within_its_limit_and_holds_restored_entries(page: Page | None) -> None:
    """At no time of a lease, in the order in which the engine drops, saves and restores."""
    generator, limit = np.random.default_rng(0), 700
    index = OffloadIndex(limit, 10, page)
    pool, slots, kept = SlotPool(2, 1, index), dict[int, tuple[int, ...]](), dict[int, tuple[int, ...]]()

    def taken() -> int:
        return sum(10 * len(entry) if page is None else page.pages(len(entry)) * 64 for entry in kept.values())

    running, seen = list[tuple[int, tuple[int, ...]]](), list[tuple[int, ...]]()
    restored = most = 0
    for _ in range(2000):
        if running and (not pool.num_free or generator.random() < 0.5):
            slot, prompt = running.pop(int(generator.integers(len(running))))
            slots[slot] = prompt + tuple(generator.integers(0, 2, generator.integers(0, 20)).tolist())
            pool.release(slot, rows(*slots[slot]))
            continue
        prompt = tuple(generator.integers(0, 2, generator.integers(2, 40)).tolist())
        if seen and generator.random() < 0.7:  # begins like an earlier one
            earlier = seen[int(generator.integers(len(seen)))]
            prompt = earlier[: int(generator.integers(len(earlier) + 1))] + prompt
        lease = pool.acquire(rows(*prompt))
        content = slots.get(lease.slot, ())[: lease.reused]
        if lease.offload is not None:
            for ticket in lease.offload.dropped:
                del kept[ticket]
            kept[lease.offload.ticket] = slots[lease.slot]
            assert lease.offload.length == len(slots[lease.slot])
        assert taken() <= limit
        if lease.copy_from is not None:
            content = slots[lease.copy_from][: lease.reused]
        if lease.restore is not None:
            content, restored = kept[lease.restore.ticket][: lease.reused], restored + 1
            for ticket in lease.restore.dropped:
                del kept[ticket]
        assert content == prompt[: lease.reused]
        assert taken() == index.num_bytes
        most = max(most, taken())
        slots[lease.slot] = prompt[:-1]
        pool.filled(lease.slot, rows(*prompt[:-1]))
        running.append((lease.slot, prompt))
        seen.append(prompt)
    assert restored > 100 and most > 0.9 * limit
