"""The policy of slots and of host memory as a scan over all prefixes: what the product's is compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain
from typing import TypeVar

from csm_engine.kv.offload_index import OffloadedEntry, RestoredEntry
from csm_engine.kv.prefix import NOTHING, Prefix
from csm_engine.kv.slot_pool import Lease
from csm_engine.model.prompt import Rows

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


class ScanningOffloadIndex:
    """Entries by ticket, least recently used first. A ticket is never reused; a dropped entry is gone at once."""

    def __init__(self, max_bytes: int, bytes_per_position: int) -> None:
        self._max_positions = max_bytes // bytes_per_position
        self._bytes_per_position = bytes_per_position
        self._entries: OrderedDict[int, Prefix] = OrderedDict()  # least recently used first
        self._num_positions = 0
        self._next_ticket = 0

    @property
    def num_bytes(self) -> int:
        return self._num_positions * self._bytes_per_position

    def keep(self, prefix: Prefix) -> OffloadedEntry | None:
        """Adds an entry. None when it is too long, is empty, or is a prefix of another entry."""
        if not 0 < len(prefix) <= self._max_positions:
            return None
        shorter = []
        for ticket, entry in self._entries.items():
            length = min(len(prefix), len(entry))
            if not rows_in_common(prefix, entry, length - 1):  # usually decided by one row
                continue
            if length == len(prefix):
                self._entries.move_to_end(ticket)
                return None
            shorter.append(ticket)
        for ticket in shorter:
            self._drop(ticket)
        dropped = list(shorter)
        while self._num_positions + len(prefix) > self._max_positions:
            oldest = next(iter(self._entries))
            self._drop(oldest)
            dropped.append(oldest)
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._entries[ticket] = prefix
        self._num_positions += len(prefix)
        return OffloadedEntry(ticket, len(prefix), tuple(dropped))

    def take(self, wanted: Prefix, longer_than: int) -> RestoredEntry | None:
        """The entry with the longest common prefix, if that is longer than `longer_than` rows; otherwise None.

        The entry becomes the most recently used. An entry that matches as a whole is dropped: the slot will hold it
        and more.
        """
        ticket, length = best_match(wanted, self._entries.items(), longer_than)
        if ticket is None:
            return None
        if length < len(self._entries[ticket]):
            self._entries.move_to_end(ticket)
            return RestoredEntry(ticket, length)
        self._drop(ticket)
        return RestoredEntry(ticket, length, dropped=(ticket,))

    def _drop(self, ticket: int) -> None:
        self._num_positions -= len(self._entries.pop(ticket))


class ScanningSlotPool:
    """The slots of one KV cache. `num_slots` may be held at once; `num_spare` more slots only keep prefixes."""

    def __init__(self, num_slots: int, num_spare: int = 0, offload_index: ScanningOffloadIndex | None = None) -> None:
        """offload_index: the entries in host memory; None offloads nothing."""
        self._num_slots = num_slots
        self._offload_index = offload_index or ScanningOffloadIndex(max_bytes=0, bytes_per_position=1)
        # Idle slots, least recently used first, each with the prefix that it holds.
        self._idle: OrderedDict[int, Prefix] = OrderedDict((slot, NOTHING) for slot in range(num_slots + num_spare))
        self._held: dict[int, Prefix] = {}

    @property
    def num_free(self) -> int:
        """Number of sequences that can still get a slot."""
        return self._num_slots - len(self._held)

    def acquire(self, rows: Rows) -> Lease:
        """Takes a slot for a prompt; one must be free. The last row is never reused: a frame step must run it.

        rows: (T, K + 1) int32, -1 where masked.
        """
        assert self.num_free, "all slots are held"
        wanted = Prefix(rows[:-1])
        lease = self._lease(wanted)
        self._held[lease.slot] = Prefix(wanted.rows[: lease.reused])
        return lease

    def match_length(self, wanted: Prefix) -> int:
        """Number of leading rows of a prompt that some slot holds now."""
        return best_match(wanted, chain(self._idle.items(), self._held.items()))[1]

    def _lease(self, wanted: Prefix) -> Lease:
        best, reused = best_match(wanted, chain(self._idle.items(), self._held.items()))
        restore = self._offload_index.take(wanted, longer_than=reused)
        if best is not None and restore is None and reused == len(self._idle.get(best, ())):
            del self._idle[best]
            return Lease(best, reused)
        slot, given_up = self._idle.popitem(last=False)  # the least recently used
        offload = self._offload_index.keep(given_up)
        if restore is not None:
            return Lease(slot, restore.length, offload=offload, restore=restore)
        if best is None or best == slot:  # the slot is the match itself: its keys and values are in place
            return Lease(slot, reused, offload=offload)
        if best in self._idle:
            self._idle.move_to_end(best)
        return Lease(slot, reused, copy_from=best, offload=offload)

    def filled(self, slot: int, rows: Rows) -> None:
        """Records the rows that a held slot's keys and values now hold. Other sequences may copy them."""
        self._held[slot] = Prefix(rows)

    def release(self, slot: int, rows: Rows) -> None:
        """Returns a slot to the pool. rows: (T, K + 1) int32, the inputs of its keys and values, one a position."""
        del self._held[slot]
        self._idle[slot] = Prefix(rows)
        if not len(rows):
            self._idle.move_to_end(slot, last=False)
