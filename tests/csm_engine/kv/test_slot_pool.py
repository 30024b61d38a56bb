"""Policy of slots and of what they remember, without a model."""

from __future__ import annotations

import numpy as np

from csm_engine.kv.offload_index import OffloadedEntry, OffloadIndex, RestoredEntry
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


def test_conversation_goes_on_in_its_own_slot() -> None:
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


def test_least_recently_used_memory_goes_first() -> None:
    pool = SlotPool(1, 2)
    for value in (1, 2, 3):
        pool.release(held(pool, rows(value, 0)), rows(value, 0, value))
    slot = held(pool, rows(1, 0, 1, 8))  # 1 is used again and now the youngest
    pool.release(slot, rows(1, 0, 1))
    pool.release(held(pool, rows(7, 0)), rows(7, 0))  # takes the place of 2
    assert pool.acquire(rows(2, 0, 2, 5)) == Lease(slot=pool_slot(pool, 3), reused=0)


def pool_slot(pool: SlotPool, value: int) -> int:
    """The slot that remembered `value` as its first row, before it was given away just now."""
    remembered = {int(memory.rows[0, 0]): slot for slot, memory in pool._idle.items()}
    assert value not in remembered
    return next(iter({0, 1, 2} - set(remembered.values())))


def test_giving_up_the_match_itself_needs_no_copy() -> None:
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


def test_nobody_is_given_a_slot_that_somebody_holds_however_well_it_fits() -> None:
    pool = SlotPool(2)
    first = pool.acquire(rows(1, 2, 3))
    pool.filled(first.slot, rows(1, 2))
    assert pool.acquire(rows(1, 2, 7)) == Lease(1 - first.slot, reused=2, copy_from=first.slot)


def test_idle_memory_is_taken_before_a_copy_of_the_same() -> None:
    pool = SlotPool(2)
    first, second = pool.acquire(rows(1, 2, 3)), pool.acquire(rows(1, 2, 3))
    pool.filled(first.slot, rows(1, 2))
    pool.release(second.slot, rows(1, 2))
    assert pool.acquire(rows(1, 2, 4)) == Lease(second.slot, reused=2)


def with_index(num_slots: int, positions: int) -> SlotPool:
    return SlotPool(num_slots, offload_index=OffloadIndex(positions * 10, bytes_per_position=10))


def test_memory_that_is_given_up_goes_to_the_shelf_and_comes_back() -> None:
    pool = with_index(1, 100)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    lease = pool.acquire(rows(7, 7))
    assert lease.offload == OffloadedEntry(ticket=0, length=3) and lease.restore is None
    pool.release(lease.slot, rows(7))
    back = pool.acquire(rows(1, 2, 3, 4))
    assert back.offload == OffloadedEntry(ticket=1, length=1)
    assert back.restore == RestoredEntry(ticket=0, length=3, dropped=(0,)) and back.reused == 3
    assert back.dropped == (0,)


def test_what_a_slot_has_is_not_brought_from_the_shelf() -> None:
    pool = with_index(2, 100)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    pool.release(held(pool, rows(5, 5)), rows(5))
    lease = pool.acquire(rows(8, 8))
    assert lease.offload is not None and lease.offload.length == 3  # 1, 2, 3 are on the shelf
    pool.filled(lease.slot, rows(1, 2, 3))
    assert pool.acquire(rows(1, 2, 3, 4)).copy_from == lease.slot


def test_making_room_may_give_up_the_very_entry_that_is_restored() -> None:
    """It is dropped after it was restored, so nothing is lost."""
    pool = with_index(1, 4)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    pool.release(held(pool, rows(7, 7)), rows(7, 7, 7, 7))
    lease = pool.acquire(rows(1, 2, 9, 9))
    assert lease.restore == RestoredEntry(ticket=0, length=2)
    assert lease.offload == OffloadedEntry(ticket=1, length=4, dropped=(0,))
    assert lease.dropped == (0,)
