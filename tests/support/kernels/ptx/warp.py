"""A warp of a program, and what its instructions do to registers, memory and other lanes.

It runs one instruction after the other, all lanes at once; a branch that lanes take differently is refused. It knows no
other warp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from tests.support.kernels.ptx.copies import Copies
from tests.support.kernels.ptx.memory import GlobalMemory, SharedMemory
from tests.support.kernels.ptx.products import Products
from tests.support.kernels.ptx.text import Function
from tests.support.kernels.ptx.values import LANES, UNSIGNED, Lanes, width_of


class Registers(dict[str, Lanes]):
    """Registers by name. An unwritten one has all bits set: compiled code may read it without using the value."""

    def __missing__(self, name: str) -> Lanes:
        return ~np.zeros(LANES, UNSIGNED[width_of(name)])


class Event(Enum):
    """The reason why a warp has stopped."""

    BARRIER = 1  # of its program
    SHARED_WITH_OTHERS = 2  # an operation of the whole GPU, behind which other programs may come first
    TIRED = 3
    ENDED = 4


@dataclass(frozen=True, slots=True)
class Jump:
    place: int


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    given: tuple[str, ...]  # names in the caller's space of parameters
    results: tuple[str, ...]


class Return:
    """Behind the last instruction of a function."""


Outcome = Jump | Call | Return | Event | None
Step = Callable[["Warp", Registers], Outcome]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled program. steps: by function, one an instruction. functions: as parsed. entry: the kernel's name."""

    entry: str
    functions: Mapping[str, Function]
    steps: Mapping[str, list[Step]]


@dataclass(slots=True)
class _Frame:
    function: Function
    steps: list[Step]
    registers: Registers
    place: int = 0
    results: tuple[str, ...] = ()  # of the caller's parameters


@dataclass(slots=True)
class Warp:
    """number: within its program. special: registers that say where it is."""

    kernel: Kernel
    number: int
    memory: GlobalMemory
    shared: SharedMemory
    special: Mapping[str, Lanes]
    frames: list[_Frame] = field(default_factory=list)
    copies: Copies = field(init=False)
    products: Products = field(init=False)

    def __post_init__(self) -> None:
        self.copies = Copies(self.memory, self.shared, self.number)
        self.products = Products(self.shared, self.number)

    def enter(self, function: str, given: Mapping[str, Lanes], results: tuple[str, ...] = ()) -> None:
        self.frames.append(
            _Frame(
                self.kernel.functions[function],
                self.kernel.steps[function],
                Registers({**self.special, **given}),
                0,
                results,
            )
        )

    def run(self, most: int) -> Event:
        """Runs until it stops, for at most that many instructions. Returns the reason."""
        frame = self.frames[-1]
        for _ in range(most):
            if frame.place >= len(frame.steps):
                outcome: Outcome = Return()
            else:
                step = frame.steps[frame.place]
                frame.place += 1
                outcome = step(self, frame.registers)
            if outcome is None:
                continue
            if isinstance(outcome, Jump):
                frame.place = outcome.place
            elif isinstance(outcome, Call):
                callee = self.kernel.functions[outcome.function]
                values = [frame.registers[name] for name in outcome.given]
                self.enter(outcome.function, dict(zip(callee.parameters, values, strict=True)), outcome.results)
                frame = self.frames[-1]
            elif isinstance(outcome, Return):
                ended = self.frames.pop()
                if not self.frames:
                    return Event.ENDED
                frame = self.frames[-1]
                for name, result in zip(ended.results, ended.function.results, strict=True):
                    frame.registers[name] = ended.registers[result]
            else:
                return outcome
        return Event.TIRED
