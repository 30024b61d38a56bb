"""A small state machine of the grid barrier, and the search through all states that it can reach.

A program adds to the counter, looks at it until its highest bit is not as it was, and goes on, as `wait_for_all` has
it. Every operation is atomic, and a program's own are in order: that each sees the latest value of the counter is what
atomic operations on one address promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A program: barriers it has passed, and the counter before it arrived at the next one, if it has.
Program = tuple[int, int | None]
State = tuple[int, tuple[Program, ...]]  # the counter, and the programs
Added = Callable[[int, int, int], int]  # by program, programs and 2**(bits - 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """early: a state in which a program has passed a barrier at which another has not arrived; stuck: one in which
    nobody can ever go on; counters: at the end. states: how many were seen.
    """

    early: State | None
    stuck: State | None
    counters: frozenset[int]
    states: int


def added_by(program: int, programs: int, half: int) -> int:
    return half + 1 - programs if program == 0 else 1


def explore(
    programs: int, barriers: int, start: int, *, bits: int = 4, added: Added = added_by, gives_up: bool = False
) -> Outcome:
    """start: of the counter, of so many bits. gives_up: a program may go on without waiting, at any barrier."""
    half = 1 << (bits - 1)
    first: State = (start, ((0, None),) * programs)
    seen, todo = {first}, [first]
    early = stuck = None
    counters = set()
    while todo:
        state = todo.pop()
        if _is_early(state):
            early = early or state
        if all(passed == barriers for passed, _ in state[1]):
            counters.add(state[0])
            continue
        following = list(_following(state, barriers, half, added, gives_up))
        if not following:
            stuck = stuck or state
        for one in following:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    return Outcome(early, stuck, frozenset(counters), len(seen))


def _is_early(state: State) -> bool:
    most = max(passed for passed, _ in state[1])
    return any(passed + (before is not None) < most for passed, before in state[1])


def _following(state: State, barriers: int, half: int, added: Added, gives_up: bool) -> Iterator[State]:
    """The next states. A look that sees the old value changes nothing, so it is left out."""
    counter, programs = state
    for number, (passed, before) in enumerate(programs):
        if passed == barriers:
            continue
        if before is None:
            after = (counter + added(number, len(programs), half)) % (2 * half)
            yield after, _with(programs, number, (passed, counter))
        elif gives_up or len(programs) == 1 or (counter ^ before) >= half:
            yield counter, _with(programs, number, (passed + 1, None))


def _with(programs: tuple[Program, ...], number: int, program: Program) -> tuple[Program, ...]:
    return (*programs[:number], program, *programs[number + 1 :])
