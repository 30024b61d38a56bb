"""The pool of slots and the index of host memory by a scan over all prefixes: what the product's is compared with.

Which of them matches best is read off the content and off their order of use, not off fingerprints and places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

from csm_engine.kv.offload_index import OffloadIndex
from csm_engine.kv.prefix import EMPTY, Prefix
from csm_engine.kv.prefix_index import PrefixIndex
from csm_engine.kv.slot_pool import SlotPool

Key = TypeVar("Key")


def rows_in_common(prefix: Prefix, other: Prefix, longer_than: int = 0) -> int:
    """As the method of Prefix."""
    length = min(len(prefix), len(other))
    if length <= longer_than or prefix.rows[longer_than].tobytes() != other.rows[longer_than].tobytes():
        return 0
    differs = (prefix.rows[:length] != other.rows[:length]).any(axis=1)
    common = int(differs.argmax()) if differs.any() else length
    return common if common > longer_than else 0


def best_match(wanted: Prefix, known: Iterable[tuple[Key, Prefix]], longer_than: int = 0) -> tuple[Key | None, int]:
    """The key of the longest common prefix and its length in rows; the first key on a tie, None without a match."""
    best, length = None, longer_than
    for key, prefix in known:
        if common := rows_in_common(wanted, prefix, length):
            best, length = key, common
    return best, length


class ScanningIndex(PrefixIndex):
    """order: the keys as the scan comes by them"""

    def __init__(self, order: Callable[[], Iterable[int]]) -> None:
        self._order = order
        self._known: dict[int, Prefix] = {}

    def put(self, key: int, prefix: Prefix, rank: int) -> None:
        self._known[key] = prefix

    def rerank(self, key: int, rank: int) -> None:
        pass  # the order says it

    def drop(self, key: int) -> None:
        del self._known[key]

    def best_match(self, wanted: Prefix, longer_than: int = 0) -> tuple[int | None, int]:
        return best_match(wanted, ((key, self._known.get(key, EMPTY)) for key in self._order()), longer_than)

    def beginnings_of(self, prefix: Prefix) -> list[int]:
        known = [(key, self._known[key]) for key in self._order()]
        return [key for key, other in known if other and rows_in_common(prefix, other) == len(other)]


class ScanningOffloadIndex(OffloadIndex):
    def __init__(self, max_bytes: int, bytes_per_position: int) -> None:
        super().__init__(max_bytes, bytes_per_position)
        self._prefixes = ScanningIndex(lambda: self._entries)


class ScanningSlotPool(SlotPool):
    def __init__(self, num_slots: int, num_spare: int = 0, offload_index: ScanningOffloadIndex | None = None) -> None:
        super().__init__(num_slots, num_spare, offload_index or ScanningOffloadIndex(0, 1))
        self._prefixes = ScanningIndex(lambda: chain(self._idle, self._held))
