"""Operands of instructions: reads of registers and constants, and writes of registers."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from tests.support.kernels.ptx.memory import SHARED_BASE
from tests.support.kernels.ptx.text import Instruction
from tests.support.kernels.ptx.values import EVERY, Lanes, as_type, immediate, to_register, width_of
from tests.support.kernels.ptx.warp import Outcome, Registers, Step, Warp

ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+)\s*)?\]")

Reader = Callable[[Registers], Lanes]


def every_lane(registers: Registers) -> Lanes:
    return EVERY


def lanes_of(instruction: Instruction) -> Reader:
    """The lanes that take part in an instruction."""
    if instruction.guard is None:
        return every_lane
    register, negated = instruction.guard
    return (lambda registers: ~registers[register]) if negated else (lambda registers: registers[register])


def reader(text: str, dtype: type[np.generic]) -> Reader:
    if text.startswith("%") or ":" in text:
        return lambda registers: as_type(registers[text], dtype)
    value = immediate(str(SHARED_BASE) if text == "global_smem" else text, dtype)
    return lambda registers: value


def address_of(text: str, dtype: type[np.generic]) -> Reader:
    found = ADDRESS.match(text)
    if found is None:
        raise NotImplementedError(f"an address {text!r}")
    base, offset = reader(found[1], dtype), immediate(found[2] or "0", dtype)
    return lambda registers: base(registers) + offset


def names_in(text: str) -> list[str]:
    return [part.strip() for part in text.strip("{} \t").split(",")]


def write(registers: Registers, name: str, values: Lanes, active: Lanes = EVERY) -> None:
    if name == "_":
        return
    values = to_register(values, width_of(name))
    if not active.all():
        values = np.where(active, values, registers[name])
    registers[name] = values


def assigned(name: str, value: Reader, guarded: Reader = every_lane) -> Step:
    def step(warp: Warp, registers: Registers) -> Outcome:
        write(registers, name, value(registers), guarded(registers))
        return None

    return step
