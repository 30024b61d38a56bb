"""The slot pool: which sequence holds which slot, and the prefix in each slot. No torch, no clock.

A released slot keeps its keys and values until it is needed again. A new prompt reuses the longest prefix that it has
in common with any slot, held or idle, so a voice prompt or a conversation is prefilled once. If that slot is idle and
all of its content matches, the prompt gets the slot itself, otherwise a copy. The least recently used idle slot is
overwritten first. With an offload index, its keys and values move to host memory and can be restored.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count

from csm_engine.kv.offload_index import OffloadedEntry, OffloadIndex, RestoredEntry
from csm_engine.kv.prefix import EMPTY, Prefix
from csm_engine.kv.prefix_index import PrefixIndex
from csm_engine.model.prompt import Rows

_HELD_RANK = 2**62  # held slots rank behind idle ones


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot for a sequence, and the copies to make first. Its first `reused` positions then need no prefill.

    In this order: drop the entries in `offload.dropped` and save the slot's old content as the entry `offload`; copy
    the reused positions from the slot `copy_from` or the entry `restore`; drop the entries in `restore.dropped`.
    """

    slot: int
    reused: int = 0
    copy_from: int | None = None
    offload: OffloadedEntry | None = None
    restore: RestoredEntry | None = None


class SlotPool:
    """The slots of one KV cache. At most `num_slots` are held at once; `num_spare` more only keep prefixes."""

    def __init__(self, num_slots: int, num_spare: int = 0, offload_index: OffloadIndex | None = None) -> None:
        """offload_index: the entries in host memory; None offloads nothing."""
        self.num_slots = num_slots
        self._offload_index = offload_index or OffloadIndex(max_bytes=0, bytes_per_position=1)
        # The prefixes of idle slots, least recently used first.
        self._idle: OrderedDict[int, Prefix] = OrderedDict((slot, EMPTY) for slot in range(num_slots + num_spare))
        self._held: dict[int, int] = {}  # ranks of held slots
        self._uses = count()  # numbers the uses of slots
        self._prefixes = PrefixIndex(num_slots + num_spare)  # ranked by last use, idle slots before held ones

    @property
    def num_free(self) -> int:
        """Number of sequences that can still get a slot."""
        return self.num_slots - len(self._held)

    def acquire(self, rows: Rows) -> Lease:
        """Takes a slot for a prompt; one must be free. The last row is never reused: the first frame step runs it.

        rows: (T, K + 1) int32, -1 where masked.
        """
        assert self.num_free, "all slots are held"
        wanted = Prefix(rows[:-1])
        lease = self._lease(wanted)
        self._held[lease.slot] = _HELD_RANK + next(self._uses)
        self._prefixes.put(lease.slot, wanted.first(lease.reused), self._held[lease.slot])
        return lease

    def match_length(self, wanted: Prefix) -> int:
        """Number of leading rows of a prompt that some slot or host memory holds."""
        return max(self._prefixes.best_match(wanted)[1], self._offload_index.match_length(wanted))

    def _lease(self, wanted: Prefix) -> Lease:
        best, reused = self._prefixes.best_match(wanted)
        restore = self._offload_index.take(wanted, longer_than=reused)
        if best is not None and restore is None and reused == len(self._idle.get(best, ())):
            del self._idle[best]
            return Lease(best, reused)
        slot, evicted = self._idle.popitem(last=False)
        offload = self._offload_index.keep(evicted, restore)
        if restore is not None:
            self._offload_index.restored(restore)
            return Lease(slot, restore.length, offload=offload, restore=restore)
        if best is None or best == slot:  # the slot is the match itself: its keys and values are in place
            return Lease(slot, reused, offload=offload)
        if best in self._idle:
            self._idle.move_to_end(best)
            self._prefixes.rerank(best, next(self._uses))
        return Lease(slot, reused, copy_from=best, offload=offload)

    def filled(self, slot: int, rows: Rows) -> None:
        """Records the rows that a held slot contains now, so that other prompts can copy them."""
        self._prefixes.put(slot, Prefix(rows), self._held[slot])

    def release(self, slot: int, rows: Rows) -> None:
        """Returns a slot to the pool. rows: (T, K + 1) int32, the inputs of its keys and values, one per position."""
        del self._held[slot]
        self._idle[slot] = prefix = Prefix(rows)
        self._prefixes.put(slot, prefix, next(self._uses))
        if not len(rows):
            self._idle.move_to_end(slot, last=False)  # nothing to keep: overwritten first
