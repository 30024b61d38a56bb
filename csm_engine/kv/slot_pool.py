"""Who holds which slot, and what slots remember. Policy only: no torch, no clock.

A slot that a sequence has left keeps its keys and values until the room is needed, and one that is held has its
sequence's prompt. A new prompt that begins like what a slot has starts from there: in the slot itself when nobody holds
it and all of it fits, otherwise from a copy, so that a voice prompt or a conversation is prefilled once. The least
recently used memory is given up first; with a shelf it goes to host memory and can come back.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain

import numpy as np

from csm_engine.kv.offload_index import OffloadedEntry, OffloadIndex, RestoredEntry
from csm_engine.kv.prefix import Prefix, best_match
from csm_engine.model.prompt import Rows

_NOTHING = Prefix(np.zeros((0, 1), dtype=np.int32))


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot for a sequence: its first `reused` positions need no prefill once they are where they belong.

    In this order: `offload` what the slot has to host memory, bring the positions from the slot `copy_from` or from the
    entry `restore`, drop what is `dropped`.
    """

    slot: int
    reused: int = 0
    copy_from: int | None = None
    offload: OffloadedEntry | None = None
    restore: RestoredEntry | None = None

    @property
    def dropped(self) -> tuple[int, ...]:
        """Tickets of entries that are kept no more."""
        return tuple(ticket for part in (self.offload, self.restore) if part for ticket in part.dropped)


class SlotPool:
    """Slots of one KV cache. `num_slots` may be held at once; `num_spare` more only remember."""

    def __init__(self, num_slots: int, num_spare: int = 0, offload_index: OffloadIndex | None = None) -> None:
        """offload_index: what host memory holds; None does without."""
        self._num_slots = num_slots
        self._offload_index = offload_index or OffloadIndex(max_bytes=0, bytes_per_position=1)
        # Every slot that nobody holds, least recently used first, with what it remembers.
        self._idle: OrderedDict[int, Prefix] = OrderedDict((slot, _NOTHING) for slot in range(num_slots + num_spare))
        self._held: dict[int, Prefix] = {}

    @property
    def num_free(self) -> int:
        """Sequences that may still be given a slot."""
        return self._num_slots - len(self._held)

    def acquire(self, rows: Rows) -> Lease:
        """A slot for a prompt; one must be free. The last row is never reused: a frame step must run it.

        rows: (T, K + 1) int32, -1 where nothing is.
        """
        assert self.num_free, "all slots are held"
        wanted = Prefix(rows[:-1])
        lease = self._lease(wanted)
        self._held[lease.slot] = Prefix(wanted.rows[: lease.reused])
        return lease

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
        if best is None or best == slot:  # giving up the match itself: what matches is there already
            return Lease(slot, reused, offload=offload)
        if best in self._idle:
            self._idle.move_to_end(best)
        return Lease(slot, reused, copy_from=best, offload=offload)

    def filled(self, slot: int, rows: Rows) -> None:
        """A held slot's keys and values now stand for these rows: others may copy them."""
        self._held[slot] = Prefix(rows)

    def release(self, slot: int, rows: Rows) -> None:
        """Gives a slot back. rows: what its keys and values stand for, position by position."""
        del self._held[slot]
        self._idle[slot] = Prefix(rows)
        if not len(rows):
            self._idle.move_to_end(slot, last=False)
