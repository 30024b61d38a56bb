"""The policy of the offload index, without host memory."""

from __future__ import annotations

import numpy as np
import pytest

from csm_engine.kv.offload_index import OffloadedEntry, OffloadIndex, Page, RestoredEntry
from csm_engine.kv.prefix import Prefix

BYTES = 100  # for one position


def prefix(*values: int) -> Prefix:
    return Prefix(np.array(values, dtype=np.int32).reshape(-1, 1))


def shelf(positions: int) -> OffloadIndex:
    return OffloadIndex(positions * BYTES + BYTES - 1, BYTES)


def test_the_byte_limit_holds_and_the_least_recently_used_entries_are_evicted() -> None:
    policy = shelf(10)
    assert policy.keep(prefix(1, 1, 1, 1)) == OffloadedEntry(0, 4)
    assert policy.keep(prefix(2, 2, 2)) == OffloadedEntry(1, 3)
    assert policy.keep(prefix(3, 3, 3)) == OffloadedEntry(2, 3)
    assert policy.num_bytes == 10 * BYTES
    assert policy.take(prefix(1, 1, 9), longer_than=0) == RestoredEntry(0, 2)  # used again
    assert policy.keep(prefix(4, 4, 4, 4)) == OffloadedEntry(3, 4, dropped=(1, 2))
    assert policy.num_bytes == 8 * BYTES
    assert policy.take(prefix(2, 2, 2), longer_than=0) is None


def test_entries_that_are_empty_or_too_large_are_not_kept() -> None:
    policy = shelf(3)
    assert policy.keep(prefix(1, 2, 3, 4)) is None
    assert policy.keep(prefix()) is None
    assert OffloadIndex(0, BYTES).keep(prefix(1)) is None
    assert policy.num_bytes == 0


def test_an_entry_that_another_begins_with_is_not_kept_beside_it() -> None:
    policy = shelf(10)
    policy.keep(prefix(1, 2))
    assert policy.keep(prefix(1, 2, 3)) == OffloadedEntry(1, 3, dropped=(0,))
    assert policy.keep(prefix(1, 2)) is None
    assert policy.num_bytes == 3 * BYTES


def test_an_entry_that_is_there_already_is_used_by_being_kept_again() -> None:
    policy = shelf(4)
    policy.keep(prefix(1, 1))
    policy.keep(prefix(2, 2))
    policy.keep(prefix(1, 1))
    assert policy.keep(prefix(3)) == OffloadedEntry(2, 1, dropped=(1,))


def test_taking_all_of_an_entry_removes_it() -> None:
    policy = shelf(10)
    policy.keep(prefix(1, 2, 3))
    taken = policy.take(prefix(1, 2, 3, 4), longer_than=2)
    assert taken == RestoredEntry(0, 3, dropped=(0,)) and policy.num_bytes == 3 * BYTES
    policy.restored(taken)
    assert policy.num_bytes == 0


def test_a_match_must_be_longer_than_the_known_one() -> None:
    policy = shelf(10)
    policy.keep(prefix(1, 2, 3))
    assert policy.take(prefix(1, 2, 9), longer_than=2) is None
    assert policy.take(prefix(1, 2, 9), longer_than=1) == RestoredEntry(0, 2)


def test_no_entry_is_a_prefix_of_another_and_none_is_lost() -> None:
    generator = np.random.default_rng(0)
    policy, entries = shelf(10_000), dict[int, tuple[int, ...]]()
    for _ in range(300):
        values = tuple(generator.integers(0, 2, generator.integers(1, 9)).tolist())
        kept = policy.keep(prefix(*values))
        begun = [ticket for ticket, entry in entries.items() if entry == values[: len(entry)]]
        if any(entry[: len(values)] == values for entry in entries.values()):
            assert kept is None
            continue
        assert kept is not None and kept.dropped == tuple(begun)
        entries = {ticket: entry for ticket, entry in entries.items() if ticket not in begun}
        entries[kept.ticket] = values
    assert policy.num_bytes == BYTES * sum(map(len, entries.values()))


@pytest.mark.parametrize("bytes_per_position", [32768, 8192, 5000, 3072, 1])
def test_a_page_of_pinned_memory_is_a_power_of_two_and_almost_all_of_it_is_used(bytes_per_position: int) -> None:
    """torch would round anything else up."""
    page = Page.pinned(bytes_per_position)
    assert page.num_bytes.bit_count() == 1 and 128 <= page.positions < 256
    assert 0 <= page.num_bytes - page.positions * bytes_per_position < bytes_per_position


def test_an_entry_takes_whole_pages_and_the_limit_is_of_these() -> None:
    policy = OffloadIndex(5 * 1024 - 1, BYTES, Page(positions=10, num_bytes=1024))
    assert policy.keep(prefix(*[1] * 11)) == OffloadedEntry(0, 11)
    assert policy.num_bytes == 2 * 1024
    assert policy.keep(prefix(2)) == OffloadedEntry(1, 1)
    assert policy.keep(prefix(*[3] * 11)) == OffloadedEntry(2, 11, dropped=(0,))
    assert policy.num_bytes == 3 * 1024
    assert policy.keep(prefix(*[4] * 41)) is None
