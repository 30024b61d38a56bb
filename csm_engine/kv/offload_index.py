"""The offload index: which keys and values are kept in host memory after their slot is reused. No torch, no clock.

An entry is the prefix that one slot held. It takes whole pages. Past the limit the least recently used entries are
dropped. An entry that is a prefix of another one is dropped too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count

from csm_engine.kv.prefix import Prefix
from csm_engine.kv.prefix_index import PrefixIndex

_MIN_PAGE_POSITIONS = 128


@dataclass(frozen=True, slots=True)
class Page:
    """The unit in which host memory is allocated."""

    positions: int
    num_bytes: int

    @classmethod
    def pinned(cls, bytes_per_position: int) -> Page:
        """A page of pinned memory: a power of two bytes, for torch rounds such allocations up to one."""
        num_bytes = 1 << (_MIN_PAGE_POSITIONS * bytes_per_position - 1).bit_length()
        return cls(num_bytes // bytes_per_position, num_bytes)

    def pages(self, positions: int) -> int:
        """Number of pages that hold this many positions."""
        return -(-positions // self.positions)


@dataclass(frozen=True, slots=True)
class OffloadedEntry:
    """A new entry of `length` positions. dropped: tickets of entries to drop before it is saved."""

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RestoredEntry:
    """The first `length` positions of an entry, to be copied into a slot.

    dropped: tickets to drop afterwards: the entry's own, if all of it was restored.
    """

    ticket: int
    length: int
    dropped: tuple[int, ...] = ()


class OffloadIndex:
    """Prefixes by ticket, in the order of their last use. A ticket is never reused."""

    def __init__(self, max_bytes: int, bytes_per_position: int, page: Page | None = None) -> None:
        """page: the unit of allocation; None allocates exactly what an entry needs."""
        self._page = page or Page(1, bytes_per_position)
        self.max_pages = max_bytes // self._page.num_bytes
        self._entries: OrderedDict[int, Prefix] = OrderedDict()  # least recently used first
        self._uses = count()  # numbers the uses of entries
        self._prefixes = PrefixIndex()  # ranked by their last use
        self._num_pages = 0
        self._next_ticket = 0

    @property
    def num_bytes(self) -> int:
        return self._num_pages * self._page.num_bytes

    def keep(self, prefix: Prefix, restored: RestoredEntry | None = None) -> OffloadedEntry | None:
        """Adds an entry. None when it is empty, does not fit, or is a prefix of another entry.

        restored: what `take` returned for the same slot. That entry is not dropped for the new one: it is copied to the
        slot after the slot's old content was saved.
        """
        room = self.max_pages - (0 if restored is None else self._pages_of(restored.ticket))
        if not 0 < self._page.pages(len(prefix)) <= room:
            return None
        longer, _ = self._prefixes.best_match(prefix, longer_than=len(prefix) - 1)
        if longer is not None:
            self._use(longer)
            return None
        shorter = self._prefixes.beginnings_of(prefix)
        for ticket in shorter:
            self._drop(ticket)
        dropped = list(shorter)
        while self._num_pages + self._page.pages(len(prefix)) > self.max_pages:
            oldest = next(iter(self._entries))  # not the one in use: `take` has made it the most recently used
            self._drop(oldest)
            dropped.append(oldest)
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._entries[ticket] = prefix
        self._prefixes.put(ticket, prefix, next(self._uses))
        self._num_pages += self._pages_of(ticket)
        return OffloadedEntry(ticket, len(prefix), tuple(dropped))

    def take(self, wanted: Prefix, longer_than: int) -> RestoredEntry | None:
        """The entry with the longest common prefix, if that is longer than `longer_than` rows; otherwise None.

        The entry becomes the most recently used. `restored` must be called before the next `take`.
        """
        ticket, length = self._prefixes.best_match(wanted, longer_than)
        if ticket is None:
            return None
        self._use(ticket)
        is_whole = length == len(self._entries[ticket])
        return RestoredEntry(ticket, length, dropped=(ticket,) if is_whole else ())

    def restored(self, entry: RestoredEntry) -> None:
        """Drops an entry that was restored as a whole: the slot holds it now."""
        for ticket in entry.dropped:
            self._drop(ticket)

    def match_length(self, wanted: Prefix) -> int:
        """Number of leading rows of a prompt that some entry has. Does not count as a use of the entry."""
        return self._prefixes.best_match(wanted)[1]

    def _use(self, ticket: int) -> None:
        self._entries.move_to_end(ticket)
        self._prefixes.rerank(ticket, next(self._uses))

    def _drop(self, ticket: int) -> None:
        self._prefixes.drop(ticket)
        self._num_pages -= self._pages_of(ticket)
        del self._entries[ticket]

    def _pages_of(self, ticket: int) -> int:
        return self._page.pages(len(self._entries[ticket]))
