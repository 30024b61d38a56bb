"""Who holds which slot, and what the idle ones still remember. Policy only: no torch, no clock.

A slot that a sequence has left keeps its keys and values until the room is needed. A new prompt that begins like what
a slot holds starts from there: in the slot itself when all of it fits, otherwise from a copy, so that a voice prompt
or a conversation is prefilled once. Rows are compared by content (text tokens and codes), never by a hash alone.
The least recently used memory is given up first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from csm_engine.prompt import Rows

_NOTHING: Rows = np.zeros((0, 0), dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot for a sequence: its first `reused` positions need no prefill, once `copy_from` is copied into it."""

    slot: int
    reused: int = 0
    copy_from: int | None = None


class SlotPool:
    """Slots of one KV cache. `num_slots` may be held at once; `num_spare` more only remember."""

    def __init__(self, num_slots: int, num_spare: int = 0) -> None:
        self._num_slots = num_slots
        self._num_held = 0
        # Every slot that nobody holds, least recently used first, with the rows it remembers.
        self._idle: OrderedDict[int, Rows] = OrderedDict((slot, _NOTHING) for slot in range(num_slots + num_spare))

    @property
    def num_free(self) -> int:
        """Sequences that may still be given a slot."""
        return self._num_slots - self._num_held

    def acquire(self, rows: Rows) -> Lease:
        """A slot for a prompt; one must be free. The last row is never reused: a frame step must run it.

        rows: (T, K + 1), -1 where nothing is.
        """
        assert self.num_free, "all slots are held"
        self._num_held += 1
        best, reused = self._best_match(rows[:-1])
        if best is not None and reused == len(self._idle[best]):
            del self._idle[best]
            return Lease(best, reused)
        slot, _ = self._idle.popitem(last=False)  # the least recently used
        if best is None:
            return Lease(slot)
        if slot == best:  # giving up the match itself: what matches is there already
            return Lease(slot, reused)
        self._idle.move_to_end(best)
        return Lease(slot, reused, copy_from=best)

    def release(self, slot: int, rows: Rows) -> None:
        """Gives a slot back. rows: what its keys and values stand for, position by position."""
        self._num_held -= 1
        self._idle[slot] = rows
        if not len(rows):
            self._idle.move_to_end(slot, last=False)

    def _best_match(self, rows: Rows) -> tuple[int | None, int]:
        best, reused = None, 0
        for slot, remembered in self._idle.items():
            length = common_prefix(rows, remembered)
            if length > reused:
                best, reused = slot, length
        return best, reused


def common_prefix(one: Rows, other: Rows) -> int:
    """Number of leading rows that are equal."""
    length = min(len(one), len(other))
    if not length:
        return 0
    differs = (one[:length] != other[:length]).any(axis=1)
    return int(differs.argmax()) if differs.any() else length
