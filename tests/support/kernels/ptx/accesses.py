"""Instructions that touch memory: loads, stores, atomic sums, parameters of calls, copies to shared memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support.kernels.ptx.operands import ADDRESS, Reader, address_of, assigned, names_in, reader, write
from tests.support.kernels.ptx.values import LANE, LANES, TYPES, immediate
from tests.support.kernels.ptx.warp import Event, Outcome, Registers, Step, Warp


def access(name: str, operands: Sequence[str], guarded: Reader) -> Step:
    kind, space, *words = name.split(".")
    if space == "param":
        return _parameter(kind, operands)
    dtype = TYPES[words[-1]]
    size = np.dtype(dtype).itemsize
    if kind == "atom":
        return _added(operands, dtype, guarded)
    place, others = (operands[0], operands[1]) if kind == "ld" else (operands[1], operands[0])
    names, (where, value) = names_in(place), ((others, "") if kind == "ld" else (others, place))
    address = address_of(where, np.uint64 if space == "global" else np.uint32)
    event = Event.SHARED_WITH_OTHERS if "acquire" in words else None
    total = size * len(names)

    def load(warp: Warp, registers: Registers) -> Outcome:
        active = guarded(registers)
        addresses = address(registers)
        if space == "global":
            values = warp.memory.read(addresses, total, active)
        else:
            values = np.zeros((LANES, total), np.uint8)
            values[active] = warp.shared.read(addresses[active], total, warp.number)
        columns = values.view(dtype)
        for number, one in enumerate(names):
            write(registers, one, np.ascontiguousarray(columns[:, number]), active)
        return event

    if kind == "ld":
        return load
    readers = [reader(one, dtype) for one in names_in(value)]

    def store(warp: Warp, registers: Registers) -> Outcome:
        active = guarded(registers)
        if not active.any():
            return None
        addresses = address(registers)
        columns = np.stack([one(registers) for one in readers], axis=1)
        values = np.ascontiguousarray(columns).view(np.uint8)
        if space == "global":
            warp.memory.write(addresses, values, active)
        else:
            warp.shared.write(addresses[active], values[active], warp.number)
        return None

    return store


def _added(operands: Sequence[str], dtype: type[np.generic], guarded: Reader) -> Step:
    """atom.add, one lane after the other."""
    to, where, value = operands
    address, added = address_of(where, np.uint64), reader(value, dtype)
    size = np.dtype(dtype).itemsize

    def step(warp: Warp, registers: Registers) -> Outcome:
        active = guarded(registers)
        addresses, values = address(registers), added(registers)
        before = np.zeros(LANES, dtype)
        for lane in np.flatnonzero(active):
            one = LANE == lane
            old = warp.memory.read(addresses, size, one).view(dtype)[:, 0]
            before[lane] = old[lane]
            warp.memory.write(addresses, (old + values)[:, None].view(np.uint8), one)
        write(registers, to, before, active)
        return Event.SHARED_WITH_OTHERS

    return step


def _parameter(kind: str, operands: Sequence[str]) -> Step:
    where, other = (operands[1], operands[0]) if kind == "ld" else (operands[0], operands[1])
    found = ADDRESS.match(where)
    if found is None or found[2]:
        raise NotImplementedError(f"a parameter {where!r}")
    name = found[1]
    if kind == "ld":
        return assigned(other, lambda registers: registers[name])
    if other.startswith("%"):
        return lambda warp, registers: registers.__setitem__(name, registers[other])
    value = immediate(other, np.uint64)
    return lambda warp, registers: registers.__setitem__(name, value)


def copy(name: str, operands: Sequence[str], guarded: Reader) -> Step:
    if name == "cp.async.commit_group":
        return lambda warp, registers: warp.copies.commit()
    if name == "cp.async.wait_group":
        most = int(operands[0])
        return lambda warp, registers: warp.copies.wait(most)
    if name.startswith("cp.async.bulk.prefetch"):
        address, length = address_of(operands[0], np.uint64), reader(operands[1], np.uint32)

        def prefetch(warp: Warp, registers: Registers) -> Outcome:
            active = guarded(registers)
            for size in np.unique(length(registers)[active]):
                warp.memory.check(address(registers), int(size), active & (length(registers) == size))
            return None

        return prefetch
    if not name.startswith(("cp.async.ca.shared.global", "cp.async.cg.shared.global")):
        raise NotImplementedError(name)
    to, source = address_of(operands[0], np.uint32), address_of(operands[1], np.uint64)
    size = int(operands[2], 0)
    read = reader(operands[3] if len(operands) > 3 else str(size), np.uint32)

    def start(warp: Warp, registers: Registers) -> Outcome:
        active = guarded(registers)
        warp.copies.start(to(registers), source(registers), size, read(registers), active)
        return None

    return start
