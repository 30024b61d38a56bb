"""The accesses of a cooperative launch's programs to its buffers between barriers, and the races among them.

A program's interval ends when it adds to the counter of the barriers with a release. The rules:

* Two programs that touch the same value of a buffer in one interval both read it.
* A program does not read what it has itself written in the same interval: other threads of it may have written.
* Buffers of `ordered` are shared within an interval by whoever counts: two touches of a value by different programs
  are in an order that follows from atomic operations (release, then acquire), whatever else the programs do.
* Behind a barrier, a program touches nothing before it has acquired what every program released at that barrier, and
  before its threads have met. It releases nothing that its threads have not met since.
* Buffers that are not `written` are only read. Nothing outside of all buffers is touched, and nothing that is not
  there in the interval. Atomic operations are of the GPU's scope.

The first rule does not depend on the order in which programs ran; the others are of the order that was run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tests.support.kernels.races.turns import Addresses

Indices = npt.NDArray[np.int64]
There = Callable[[str, int, Indices, bool], bool]
_NO_PROGRAM = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Race:
    """The first race of its kind in an interval. programs: two that take part, if two are known."""

    rule: str
    buffer: str
    interval: int
    programs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Buffer:
    name: str
    first: int  # address
    last: int
    itemsize: int
    size: int


class _Touched:
    """For each value of a buffer, the lowest and highest program to touch it in an interval, and whether any wrote."""

    def __init__(self, size: int) -> None:
        self.least = np.full(size, _NO_PROGRAM, np.int16)
        self.greatest = np.full(size, -1, np.int16)
        self.written = np.zeros(size, bool)

    def add(self, program: int, indices: Indices, writes: bool) -> None:
        self.least[indices] = np.minimum(self.least[indices], program)
        self.greatest[indices] = np.maximum(self.greatest[indices], program)
        if writes:
            self.written[indices] = True

    def shared(self, other: _Touched | None = None) -> tuple[int, int] | None:
        """Two programs that touch one value which one of them writes, in this interval (and in another)."""
        least, greatest, written = self.least, self.greatest, self.written
        if other is not None:
            least, greatest = np.minimum(least, other.least), np.maximum(greatest, other.greatest)
            written = written | other.written
        wrong = np.flatnonzero(written & (least < greatest))
        return (int(least[wrong[0]]), int(greatest[wrong[0]])) if len(wrong) else None


_Interval = dict[str, _Touched]


class Accesses:
    """A `Watcher`. After the run: `races`, `arrivals` (barriers of each program), and `idle` barriers.

    buffers: everything that the launch is given; written: those that it may write; counter: the barriers' own. there:
    whether all values of a buffer with these indices are there in an interval, to be written or only to be read; all
    are by default.
    """

    def __init__(
        self,
        programs: int,
        buffers: Mapping[str, Tensor],
        *,
        written: Iterable[str],
        ordered: Iterable[str] = (),
        counter: str = "counter",
        there: There | None = None,
    ) -> None:
        self._buffers = [
            _Buffer(name, t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), t.element_size(), t.numel())
            for name, t in buffers.items()
        ]
        self._buffers.sort(key=lambda buffer: buffer.first)
        self._starts = np.array([buffer.first for buffer in self._buffers], np.uint64)
        self._written, self._counter, self._there = frozenset(written), counter, there
        self._order = _Order(programs)
        self._ordered = {b.name: _LastTouch(b.size) for b in self._buffers if b.name in frozenset(ordered)}
        self._races: dict[tuple[str, str, int], Race] = {}
        self._open: dict[int, _Interval] = defaultdict(dict)
        self._before: _Interval = {}
        self._next = 0  # interval to close
        self.arrivals = [0] * programs
        self._arrived_at: list[list[int]] = [[] for _ in range(programs)]  # the program's time at each barrier
        self._must_have_passed = [False] * programs
        self._threads_apart = [False] * programs  # something was touched since they met
        self._met_since = [True] * programs  # the last look
        self.idle: list[int] = []
        self.prefetched: dict[str, int] = defaultdict(int)  # bytes, by buffer

    @property
    def races(self) -> list[Race]:
        return list(self._races.values())

    # What a watcher is told.

    def load(self, program: int, addresses: Addresses) -> None:
        self._touch(program, addresses, writes=False)

    def store(self, program: int, addresses: Addresses) -> None:
        self._touch(program, addresses, writes=True)

    def threads_meet(self, program: int) -> None:
        self._threads_apart[program] = False
        self._met_since[program] = True

    def prefetches(self, program: int, addresses: Addresses, sizes: npt.NDArray[np.int32]) -> None:
        buffer, _ = self._place(program, addresses)
        if buffer is None:
            return
        if buffer.name in self._written:
            self._found("prefetches what is written", buffer.name, program)
        if (addresses + sizes.astype(np.uint64)).max() > buffer.last:
            self._found("prefetches beyond the buffer", buffer.name, program)
        if (addresses % 16).any() or (sizes % 16).any():
            self._found("prefetches parts of 16 bytes", buffer.name, program)
        self.prefetched[buffer.name] += int(sizes.sum())

    def atomic(self, program: int, address: int, *, acquires: bool, releases: bool, of_gpu: bool, looks: bool) -> None:
        buffer, indices = self._place(program, np.array([address], np.uint64))
        if buffer is None:
            return
        if not of_gpu:
            self._found("atomic operation of less than the GPU", buffer.name, program)
        if releases and self._threads_apart[program]:
            self._found("releases before its threads have met", buffer.name, program)
        if buffer.name != self._counter or releases:
            self._has_passed(program, buffer.name)
        if buffer.name == self._counter:
            self._met_since[program] = False
        elif buffer.name not in self._ordered:
            self._found("atomic operation", buffer.name, program)
        elif not self._ordered[buffer.name].follows(indices, program, self._order.seen[program]):
            self._found("no order", buffer.name, program)
        self._order.atomic(program, address, acquires=acquires, releases=releases)
        if buffer.name == self._counter and releases:
            self._arrive(program)

    def finish(self) -> None:
        """Must be called when all programs have ended."""
        if len(set(self.arrivals)) > 1:
            few = min(range(len(self.arrivals)), key=self.arrivals.__getitem__)
            self._found("passes fewer barriers than others", self._counter, few)
        for interval in range(self._next, max(self.arrivals) + 1):
            self._close(interval)

    # Rules.

    def _touch(self, program: int, addresses: Addresses, *, writes: bool) -> None:
        if not len(addresses):
            return
        buffer, indices = self._place(program, addresses)
        if buffer is None:
            return
        self._has_passed(program, buffer.name)
        self._threads_apart[program] = True
        if self._there is not None and not self._there(buffer.name, self.arrivals[program], indices, writes):
            self._found("touches what is not there", buffer.name, program)
        if buffer.name in self._ordered:
            self._touch_ordered(buffer.name, program, indices, int(addresses[0]), writes)
        elif buffer.name not in self._written:
            if writes:
                self._found("writes an input", buffer.name, program)
        else:
            interval = self._open[self.arrivals[program]]
            touched = interval.get(buffer.name)
            if touched is None:
                touched = interval[buffer.name] = _Touched(buffer.size)
            if not writes and (touched.written[indices] & (touched.greatest[indices] == program)).any():
                self._found("reads what it has just written", buffer.name, program)
            touched.add(program, indices, writes)

    def _touch_ordered(self, name: str, program: int, indices: Indices, address: int, writes: bool) -> None:
        last = self._ordered[name]
        if not last.follows(indices, program, self._order.seen[program]):
            self._found("no order", name, program, int(last.program[indices].max()))
        if writes and not self._order.has_seen_counts(program, address):
            self._found("no order", name, program)
        last.add(indices, program, self._order.time(program))

    def _has_passed(self, program: int, name: str) -> None:
        """Checks, once in an interval, that the program has waited at the barrier before it."""
        if not self._must_have_passed[program]:
            return
        self._must_have_passed[program] = False
        barrier = self.arrivals[program] - 1
        for other, times in enumerate(self._arrived_at):
            if len(times) <= barrier or self._order.seen[program][other] < times[barrier]:
                self._found("goes on before another has arrived", name, program, other)
                break
        if not self._met_since[program]:
            self._found("goes on before its threads have met", name, program)

    def _arrive(self, program: int) -> None:
        self._arrived_at[program].append(self._order.time(program) - 1)
        self.arrivals[program] += 1
        self._must_have_passed[program] = True
        for interval in range(self._next, min(self.arrivals)):
            self._close(interval)

    def _close(self, interval: int) -> None:
        touched, self._next = self._open.pop(interval, {}), interval + 1
        for name, of_buffer in touched.items():
            if programs := of_buffer.shared():
                self._found("touch the same, and not all read", name, *programs, interval=interval)
        if interval and not any(of_buffer.shared(self._before.get(name)) for name, of_buffer in touched.items()):
            self.idle.append(interval - 1)
        self._before = touched

    def _found(self, rule: str, name: str, *programs: int, interval: int | None = None) -> None:
        at = self.arrivals[programs[0]] if interval is None else interval
        self._races.setdefault((rule, name, at), Race(rule, name, at, programs))

    def _place(self, program: int, addresses: Addresses) -> tuple[_Buffer | None, Indices]:
        """(the buffer with all addresses, the indices of their values in it)"""
        first, last = addresses.min(), addresses.max()
        number = int(np.searchsorted(self._starts, first, side="right")) - 1
        buffer = self._buffers[number] if number >= 0 else None
        if buffer is None or last >= buffer.last:
            self._found("touches what is in no buffer", buffer.name if buffer else "", program)
            return None, np.zeros(0, np.int64)
        return buffer, ((addresses - np.uint64(buffer.first)) // np.uint64(buffer.itemsize)).astype(np.int64)


class _LastTouch:
    """The last program to touch each value of an ordered buffer, and when it did."""

    def __init__(self, size: int) -> None:
        self.program = np.zeros(size, np.int16)
        self.time = np.zeros(size, np.int64)

    def follows(self, indices: Indices, program: int, seen: npt.NDArray[np.int64]) -> bool:
        last = self.program[indices]
        return bool(((last == program) | (seen[last] >= self.time[indices])).all())

    def add(self, indices: Indices, program: int, time: int) -> None:
        self.program[indices], self.time[indices] = program, time


class _Order:
    """Vector clocks of happens-before: what each program has seen of every other.

    An atomic operation that releases leaves at its address all that its program has seen, beside what others have left
    there: atomic operations that follow pass it on, whoever makes them. One that acquires takes it.
    """

    def __init__(self, programs: int) -> None:
        self.seen = np.zeros((programs, programs), np.int64)
        self.seen[np.diag_indices(programs)] = 1
        self._left: dict[int, npt.NDArray[np.int64]] = {}

    def time(self, program: int) -> int:
        return int(self.seen[program, program])

    def atomic(self, program: int, address: int, *, acquires: bool, releases: bool) -> None:
        left = self._left.get(address)
        if acquires and left is not None:
            np.maximum(self.seen[program], left, out=self.seen[program])
        if releases:
            own = self.seen[program].copy()
            self._left[address] = own if left is None else np.maximum(left, own)
            self.seen[program, program] += 1

    def has_seen_counts(self, program: int, address: int) -> bool:
        """Whether all atomic operations at an address are ordered before the program's next one."""
        left = self._left.get(address)
        return left is None or bool((self.seen[program] >= left).all())
