"""The step of each instruction: what it reads, computes and writes. Unknown ones raise NotImplementedError."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tests.support.kernels.ptx.accesses import access, copy
from tests.support.kernels.ptx.arithmetic import Operation, operation
from tests.support.kernels.ptx.matrices import matrix_step
from tests.support.kernels.ptx.operands import Reader, assigned, lanes_of, names_in, reader, write
from tests.support.kernels.ptx.text import Function, Instruction, functions_of
from tests.support.kernels.ptx.values import LANE, LANES, TYPES, Lanes, width_of
from tests.support.kernels.ptx.warp import Call, Event, Jump, Kernel, Outcome, Registers, Return, Step, Warp

_NOTHING = ("fence", "membar", "wgmma.fence", "bar.warp", "griddepcontrol", "pragma")


def kernel_of(text: str) -> Kernel:
    """The steps of all functions."""
    entry, functions = functions_of(text)
    return Kernel(entry, functions, {name: _steps(function) for name, function in functions.items()})


def _steps(function: Function) -> list[Step]:
    return [_step(instruction, function) for instruction in function.code]


def _step(instruction: Instruction, function: Function) -> Step:
    name, operands, guarded = instruction.name, instruction.operands, lanes_of(instruction)
    kind = name.split(".")[0]
    if name.startswith(_NOTHING):
        return lambda warp, registers: None
    if kind in ("bra", "ret", "exit", "trap"):
        return _branch(kind, operands, function, guarded)
    if kind == "call":
        names = [re.findall(r"[\w$]+", part) for part in operands]
        results, (callee,), given = names if len(names) == 3 else ([], *names)
        call = Call(callee, tuple(given), tuple(results))
        return lambda warp, registers: call
    if name.startswith("bar.sync"):
        return lambda warp, registers: Event.BARRIER
    if kind in ("ld", "st", "atom"):
        return access(name, operands, guarded)
    if kind == "cp":
        return copy(name, operands, guarded)
    if kind in ("wgmma", "mma", "ldmatrix", "stmatrix"):
        return matrix_step(name, operands)
    if kind in ("shfl", "redux"):
        return _among_lanes(name, operands)
    if kind == "createpolicy":
        return assigned(operands[0], lambda registers: np.zeros(LANES, np.uint64), guarded)
    if kind == "mov" and "{" in "".join(operands):
        return _regrouped(operands)
    if (found := operation(name)) is not None:
        return assigned(operands[0], _computed(found, operands[1:]), guarded)
    raise NotImplementedError(f"{name} {', '.join(operands)}")


def _computed(found: Operation, operands: Sequence[str]) -> Reader:
    readers = [reader(text, dtype) for text, dtype in zip(operands, found.sources, strict=True)]
    return lambda registers: found.function(*(one(registers) for one in readers))


def _regrouped(operands: Sequence[str]) -> Step:
    """mov between one register and several with its parts, the lowest first."""
    to, source = operands
    if to.startswith("{"):
        names = names_in(to)

        def apart(warp: Warp, registers: Registers) -> Outcome:
            whole = registers[source]
            bits = 8 * whole.dtype.itemsize // len(names)
            for number, name in enumerate(names):
                part = (whole >> whole.dtype.type(bits * number)).astype(f"u{bits // 8}")
                write(registers, name, part)
            return None

        return apart
    width = width_of(to)
    parts = names_in(source)
    part_type = np.dtype(f"u{width // 8 // len(parts)}").type
    readers = [reader(part, part_type) for part in parts]

    def together(warp: Warp, registers: Registers) -> Outcome:
        values = np.stack([one(registers) for one in readers], axis=1)
        registers[to] = np.ascontiguousarray(values).view(f"u{width // 8}")[:, 0]
        return None

    return together


def _branch(kind: str, operands: Sequence[str], function: Function, guarded: Reader) -> Step:
    outcome = Jump(function.labels[operands[0]]) if kind == "bra" else Return()

    def step(warp: Warp, registers: Registers) -> Outcome:
        taken = guarded(registers)
        if not taken.any():
            return None
        if not taken.all():
            raise NotImplementedError(f"lanes take a branch to {operands} differently")
        if kind == "trap":
            raise RuntimeError("the kernel has trapped")
        return outcome

    return step


def _among_lanes(name: str, operands: Sequence[str]) -> Step:
    dtype = TYPES[name.split(".")[-1]]
    value = reader(operands[1], dtype)
    if name.startswith("redux"):
        reduce = {"add": np.add, "max": np.maximum, "min": np.minimum}[name.split(".")[2]].reduce
        return assigned(operands[0], lambda registers: np.full(LANES, reduce(value(registers), dtype=dtype), dtype))
    where, mode = reader(operands[2], np.uint32), name.split(".")[2]
    if mode not in ("bfly", "idx") or operands[3] != "31":
        raise NotImplementedError(f"{name} {operands}")

    def taken(registers: Registers) -> Lanes:
        other = where(registers).astype(np.int64)
        return value(registers)[LANE ^ other if mode == "bfly" else other % LANES]

    return assigned(operands[0], taken)
