"""The offload index: which keys and values stay in host memory when their slot is reused. No torch, no clock.

An entry is the prefix that one slot held. Its bytes are in proportion to its length. Past the limit the least recently
used entries are dropped. An entry that is a prefix of another one is not kept beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count

from csm_engine.kv.prefix import Prefix
from csm_engine.kv.prefix_index import PrefixIndex


@dataclass(frozen=True, slots=True)
class OffloadedEntry:
    """A new entry of `length` positions. dropped: tickets of the entries that it replaces."""

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoredEntry:
    """The first `length` positions of an entry. dropped: the entry's own ticket when they are the whole entry."""

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


class OffloadIndex:
    """Entries by ticket, least recently used first. A ticket is never reused; a dropped entry is gone at once."""

    def __init__(self, max_bytes: int, bytes_per_position: int) -> None:
        self._max_positions = max_bytes // bytes_per_position
        self._bytes_per_position = bytes_per_position
        self._entries: OrderedDict[int, Prefix] = OrderedDict()  # least recently used first
        self._turns = count()
        self._prefixes = PrefixIndex()  # by how long they have not been used
        self._num_positions = 0
        self._next_ticket = 0

    @property
    def num_bytes(self) -> int:
        return self._num_positions * self._bytes_per_position

    def keep(self, prefix: Prefix) -> OffloadedEntry | None:
        """Adds an entry. None when it is too long, is empty, or is a prefix of another entry."""
        if not 0 < len(prefix) <= self._max_positions:
            return None
        longer, _ = self._prefixes.best_match(prefix, longer_than=len(prefix) - 1)
        if longer is not None:
            self._use(longer)
            return None
        shorter = self._prefixes.beginnings_of(prefix)
        for ticket in shorter:
            self._drop(ticket)
        dropped = list(shorter)
        while self._num_positions + len(prefix) > self._max_positions:
            oldest = next(iter(self._entries))
            self._drop(oldest)
            dropped.append(oldest)
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._entries[ticket] = prefix
        self._prefixes.put(ticket, prefix, next(self._turns))
        self._num_positions += len(prefix)
        return OffloadedEntry(ticket, len(prefix), tuple(dropped))

    def take(self, wanted: Prefix, longer_than: int) -> RestoredEntry | None:
        """The entry with the longest common prefix, if that is longer than `longer_than` rows; otherwise None.

        The entry becomes the most recently used. An entry that matches as a whole is dropped: the slot will hold it
        and more.
        """
        ticket, length = self._prefixes.best_match(wanted, longer_than)
        if ticket is None:
            return None
        if length < len(self._entries[ticket]):
            self._use(ticket)
            return RestoredEntry(ticket, length)
        self._drop(ticket)
        return RestoredEntry(ticket, length, dropped=(ticket,))

    def match_length(self, wanted: Prefix) -> int:
        """Number of leading rows of a prompt that some entry has. It is no use of the entry."""
        return self._prefixes.best_match(wanted)[1]

    def _use(self, ticket: int) -> None:
        self._entries.move_to_end(ticket)
        self._prefixes.move(ticket, next(self._turns))

    def _drop(self, ticket: int) -> None:
        self._prefixes.drop(ticket)
        self._num_positions -= len(self._entries.pop(ticket))
