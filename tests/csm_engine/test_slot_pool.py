"""Policy of slots and of what they remember, without a model."""

from __future__ import annotations

import numpy as np

from csm_engine.prompt import Rows
from csm_engine.slot_pool import Lease, SlotPool, common_prefix


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
    remembered = {int(memory[0, 0]): slot for slot, memory in pool._idle.items()}
    assert value not in remembered
    return next(iter({0, 1, 2} - set(remembered.values())))


def test_giving_up_the_match_itself_needs_no_copy() -> None:
    pool = SlotPool(1)
    pool.release(held(pool, rows(1, 2)), rows(1, 2, 3))
    assert pool.acquire(rows(1, 9, 9)) == Lease(0, reused=1, copy_from=None)


def test_text_and_codes_of_equal_value_are_told_apart() -> None:
    text, codes = np.array([[-1, 5]], np.int32), np.array([[5, -1]], np.int32)
    assert common_prefix(text, codes) == 0
    assert common_prefix(text, text) == 1
    assert common_prefix(rows(1, 2, 3), rows(1, 2, 4, 5)) == 2
    assert common_prefix(rows(), rows(1)) == 0
