"""Which keys and values are kept in host memory when their slot is given away. Policy only: no torch, no clock.

An entry is what one slot stood for. Entries take bytes by their length; past the limit the least recently used go. An
entry that another one begins with is not kept beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from csm_engine.kv.prefix import Prefix, best_match


@dataclass(frozen=True, slots=True)
class OffloadedEntry:
    """A new entry, `length` positions long, and the entries that make room for it."""

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoredEntry:
    """The first `length` positions of an entry; `dropped` is its own ticket when they are all of it."""

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


class OffloadIndex:
    """Entries have tickets, whose numbers never come again. What is dropped is forgotten here and now."""

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
        """Makes an entry; None where it has no room, or is in another one."""
        if not 0 < len(prefix) <= self._max_positions:
            return None
        shorter = []
        for ticket, entry in self._entries.items():
            length = min(len(prefix), len(entry))
            if not prefix.has_in_common(entry, longer_than=length - 1):  # mostly one look at one row tells
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
        """The entry that begins most like what is wanted, if it does so for more rows than that.

        It is used now; one that is wanted as a whole does not stay, for the slot will have it, and more behind it.
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
