"""The index of prefixes finds the same as a scan over all prefixes, and so do slot pool and offload index with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.slot_pool.reference import ScanningOffloadIndex, ScanningSlotPool, best_match
from csm_engine.kv.offload_index import OffloadIndex
from csm_engine.kv.prefix import Prefix
from csm_engine.kv.prefix_index import PrefixIndex
from csm_engine.kv.slot_pool import SlotPool
from csm_engine.model.prompt import Rows


def rows(values: list[int]) -> Rows:
    return np.array([[value, -1] for value in values], dtype=np.int32).reshape(-1, 2)


def prefix(*values: int) -> Prefix:
    return Prefix(rows(list(values)))


@pytest.fixture(params=["fingerprints", "equal fingerprints"])
def any_fingerprints(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """When all rows have the same fingerprint, the content decides."""
    if request.param == "equal fingerprints":
        monkeypatch.setattr(Prefix, "_factors", {2: np.zeros(2, np.int32)})
    yield


@pytest.mark.usefixtures("any_fingerprints")
def test_best_is_the_longest_and_the_one_of_the_least_place_among_equals() -> None:
    index = PrefixIndex(1)
    for key, (known, place) in enumerate([(prefix(1), 0), (prefix(1, 2, 8), 7), (prefix(1, 2, 9), 5), (prefix(5), 1)]):
        index.put(key, known, place)
    assert index.best_match(prefix(1, 2, 3)) == (2, 2)
    assert index.best_match(prefix(1, 2, 3), longer_than=2) == (None, 2)
    assert index.best_match(prefix(7)) == (None, 0)
    index.rerank(1, 4)
    assert index.best_match(prefix(1, 2, 3)) == (1, 2)
    assert index.beginnings_of(prefix(1, 2, 8, 4)) == [0, 1]
    index.drop(1)
    assert index.best_match(prefix(1, 2, 8)) == (2, 2)
    index.put(2, prefix(1, 3), 5)  # shorter than before: rows after its end no longer count
    assert index.best_match(prefix(1, 2, 9)) == (0, 1)


VALUES = st.lists(st.integers(0, 2), max_size=7)


@pytest.mark.usefixtures("any_fingerprints")
@settings(max_examples=60)
@given(st.lists(VALUES, max_size=12), VALUES, st.integers(0, 3))
def test_a_match_is_that_of_the_scan(known: list[list[int]], wanted: list[int], longer_than: int) -> None:
    index, prefixes = PrefixIndex(2), {key: prefix(*values) for key, values in enumerate(known)}
    for key, one in prefixes.items():
        index.put(key, prefix(9, 9, 9, 9, 9), 100 + key)
        index.put(key, one, key)
    assert index.best_match(prefix(*wanted), longer_than) == best_match(prefix(*wanted), prefixes.items(), longer_than)


def test_a_dropped_prefix_makes_room_for_another() -> None:
    index = PrefixIndex(2)
    for key in range(99):
        index.put(key, prefix(key), key)
        if key:
            index.drop(key - 1)
    assert index.best_match(prefix(98)) == (98, 1) and index._fingerprints.shape == (64, 2)


def test_prompts_with_one_row_in_common_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of the same voice often have one word at the same position, and each would be read as far as that."""
    index, compared, rows_in_common = PrefixIndex(64), [], Prefix.rows_in_common

    def recorded(wanted: Prefix, other: Prefix, longer_than: int = 0) -> int:
        compared.append(other)
        return rows_in_common(wanted, other, longer_than)

    for key in range(64):
        index.put(key, prefix(1, 2, 100 + key, 4, 5), key)
    monkeypatch.setattr(Prefix, "rows_in_common", recorded)
    assert index.best_match(prefix(1, 2, 163, 4, 6)) == (63, 4) and len(compared) == 2
    assert index.best_match(prefix(1, 2, 3, 4, 5), longer_than=3) == (None, 3) and len(compared) == 2


@pytest.mark.parametrize("positions", [0, 12, 60])
@pytest.mark.parametrize("seed", range(4))
def test_slots_and_entries_of_host_memory_are_chosen_as_by_the_scan(seed: int, positions: int) -> None:
    """Prompts of few different values, so that many share a beginning, continue another or are equal."""
    generator = np.random.default_rng(seed)
    pool = SlotPool(4, 3, OffloadIndex(positions, 1))
    scan = ScanningSlotPool(4, 3, ScanningOffloadIndex(positions, 1))
    held: dict[int, list[int]] = {}
    said: list[list[int]] = [[]]
    reused = restored = copied = 0
    for _ in range(150):
        match generator.integers(4):
            case 0 | 1 if pool.num_free:
                begun = said[generator.integers(len(said))] if generator.random() < 0.7 else []
                prompt = [*begun, *generator.integers(0, 3, generator.integers(1, 4)).tolist()]
                lease = pool.acquire(rows(prompt))
                assert lease == scan.acquire(rows(prompt))
                held[lease.slot] = prompt
                reused, restored = reused + (lease.reused > 0), restored + (lease.restore is not None)
                copied += lease.copy_from is not None
            case 2 if held:
                slot = int(generator.choice(list(held)))
                for each in (pool, scan):
                    each.filled(slot, rows(held[slot]))
            case _ if held:
                slot = int(generator.choice(list(held)))
                kept = [*held.pop(slot), *generator.integers(0, 3, generator.integers(0, 4)).tolist()]
                kept = kept[: int(generator.integers(0, 12))]
                for each in (pool, scan):
                    each.release(slot, rows(kept))
                said = [*said, kept][-6:]
        wanted = prefix(*said[-1], 1)
        assert pool.match_length(wanted) == scan.match_length(wanted) and pool.num_free == scan.num_free
    assert reused > 10 and copied > 0 and (restored > 0 or not positions)
