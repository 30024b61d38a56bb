"""The step of each instruction: what it reads, does and writes. Raises NotImplementedError for one that is not known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from tests.support.kernels.ptx import tensor_cores
from tests.support.kernels.ptx.arithmetic import Operation, operation
from tests.support.kernels.ptx.memory import SHARED_BASE
from tests.support.kernels.ptx.products import NO_NUMBER, Tile
from tests.support.kernels.ptx.text import Function, Instruction, functions_of
from tests.support.kernels.ptx.values import LANES, TYPES, Lanes, as_type, immediate, to_register, width_of
from tests.support.kernels.ptx.warp import EVERY, Call, Event, Jump, Kernel, Outcome, Registers, Return, Step, Warp

_ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+)\s*)?\]")
_NOTHING = ("fence", "membar", "wgmma.fence", "bar.warp", "griddepcontrol", "pragma")
_LANE = np.arange(LANES)

Reader = Callable[[Registers], Lanes]


def kernel_of(text: str) -> Kernel:
    """The steps of compiled text."""
    entry, functions = functions_of(text)
    return Kernel(entry, functions, {name: _steps(function) for name, function in functions.items()})


def _steps(function: Function) -> list[Step]:
    return [_step(instruction, function) for instruction in function.code]


def _step(instruction: Instruction, function: Function) -> Step:
    name, operands, guarded = instruction.name, instruction.operands, _guard(instruction)
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
        return _access(name, operands, guarded)
    if kind == "cp":
        return _copy(name, operands, guarded)
    if kind in ("wgmma", "mma", "ldmatrix", "stmatrix"):
        return _matrix(name, operands)
    if kind in ("shfl", "redux"):
        return _among_lanes(name, operands)
    if kind == "createpolicy":
        return _assigned(operands[0], lambda registers: np.zeros(LANES, np.uint64), guarded)
    if kind == "mov" and "{" in "".join(operands):
        return _regrouped(operands)
    if (found := operation(name)) is not None:
        return _assigned(operands[0], _computed(found, operands[1:]), guarded)
    raise NotImplementedError(f"{name} {', '.join(operands)}")


def _guard(instruction: Instruction) -> Reader | None:
    """Which lanes take part."""
    if instruction.guard is None:
        return None
    register, negated = instruction.guard
    return (lambda registers: ~registers[register]) if negated else (lambda registers: registers[register])


def _reader(text: str, dtype: type[np.generic]) -> Reader:
    if text.startswith("%") or ":" in text:
        return lambda registers: as_type(registers[text], dtype)
    value = np.full(LANES, SHARED_BASE, np.uint32) if text == "global_smem" else immediate(text, dtype)
    value = as_type(value, dtype) if text == "global_smem" and np.dtype(dtype).itemsize == 4 else value
    return lambda registers: value


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.strip("{} \t").split(",")]


def _write(registers: Registers, name: str, values: Lanes, active: Lanes | None) -> None:
    if name == "_":
        return
    values = to_register(values, width_of(name))
    if active is not None and not active.all():
        values = np.where(active, values, registers[name] if name in registers else ~np.zeros_like(values))
    registers[name] = values


def _assigned(name: str, value: Reader, guarded: Reader | None) -> Step:
    def step(warp: Warp, registers: Registers) -> Outcome:
        _write(registers, name, value(registers), guarded and guarded(registers))
        return None

    return step


def _computed(found: Operation, operands: Sequence[str]) -> Reader:
    readers = [_reader(text, dtype) for text, dtype in zip(operands, found.sources, strict=True)]
    return lambda registers: found.function(*(reader(registers) for reader in readers))


def _regrouped(operands: Sequence[str]) -> Step:
    """mov between one register and several that hold its parts, the lowest first."""
    to, source = operands
    if to.startswith("{"):
        names = _list(to)

        def apart(warp: Warp, registers: Registers) -> Outcome:
            whole = registers[source]
            bits = 8 * whole.dtype.itemsize // len(names)
            for number, name in enumerate(names):
                part = (whole >> whole.dtype.type(bits * number)).astype(f"u{bits // 8}")
                _write(registers, name, part, None)
            return None

        return apart
    width = width_of(to)
    parts = _list(source)
    part_type = np.dtype(f"u{width // 8 // len(parts)}").type
    readers = [_reader(part, part_type) for part in parts]

    def together(warp: Warp, registers: Registers) -> Outcome:
        values = np.stack([reader(registers) for reader in readers], axis=1)
        registers[to] = np.ascontiguousarray(values).view(f"u{width // 8}")[:, 0]
        return None

    return together


def _branch(kind: str, operands: Sequence[str], function: Function, guarded: Reader | None) -> Step:
    outcome = Jump(function.labels[operands[0]]) if kind == "bra" else Return()

    def step(warp: Warp, registers: Registers) -> Outcome:
        taken = EVERY if guarded is None else guarded(registers)
        if not taken.any():
            return None
        if not taken.all():
            raise NotImplementedError(f"lanes take a branch to {operands} differently")
        if kind == "trap":
            raise RuntimeError("the kernel has trapped")
        return outcome

    return step


def _address(text: str, dtype: type[np.generic]) -> Reader:
    found = _ADDRESS.match(text)
    if found is None:
        raise NotImplementedError(f"an address {text!r}")
    base, offset = _reader(found[1], dtype), immediate(found[2] or "0", dtype)
    return lambda registers: base(registers) + offset


def _access(name: str, operands: Sequence[str], guarded: Reader | None) -> Step:
    kind, space, *words = name.split(".")
    if space == "param":
        return _parameter(kind, operands)
    dtype = TYPES[words[-1]]
    size = np.dtype(dtype).itemsize
    if kind == "atom":
        return _added(operands, dtype, guarded)
    place, others = (operands[0], operands[1]) if kind == "ld" else (operands[1], operands[0])
    names, (where, value) = _list(place), ((others, "") if kind == "ld" else (others, place))
    address = _address(where, np.uint64 if space == "global" else np.uint32)
    event = Event.SHARED_WITH_OTHERS if "acquire" in words else None
    total = size * len(names)

    def load(warp: Warp, registers: Registers) -> Outcome:
        active = EVERY if guarded is None else guarded(registers)
        addresses = address(registers)
        if space == "global":
            values = warp.memory.read(addresses, total, active)
        else:
            values = np.zeros((LANES, total), np.uint8)
            values[active] = warp.shared.read(addresses[active], total, warp.number)
        columns = values.view(dtype)
        for number, one in enumerate(names):
            _write(registers, one, np.ascontiguousarray(columns[:, number]), active)
        return event

    if kind == "ld":
        return load
    readers = [_reader(one, dtype) for one in _list(value)]

    def store(warp: Warp, registers: Registers) -> Outcome:
        active = EVERY if guarded is None else guarded(registers)
        if not active.any():
            return None
        addresses = address(registers)
        columns = np.stack([reader(registers) for reader in readers], axis=1)
        values = np.ascontiguousarray(columns).view(np.uint8)
        if space == "global":
            warp.memory.write(addresses, values, active)
        else:
            warp.shared.write(addresses[active], values[active], warp.number)
        return None

    return store


def _added(operands: Sequence[str], dtype: type[np.generic], guarded: Reader | None) -> Step:
    """atom.add: a lane after the other."""
    to, where, value = operands
    address, added = _address(where, np.uint64), _reader(value, dtype)
    size = np.dtype(dtype).itemsize

    def step(warp: Warp, registers: Registers) -> Outcome:
        active = EVERY if guarded is None else guarded(registers)
        addresses, values = address(registers), added(registers)
        before = np.zeros(LANES, dtype)
        for lane in np.flatnonzero(active):
            one = _LANE == lane
            old = warp.memory.read(addresses, size, one).view(dtype)[:, 0]
            before[lane] = old[lane]
            warp.memory.write(addresses, (old + values)[:, None].view(np.uint8), one)
        _write(registers, to, before, active)
        return Event.SHARED_WITH_OTHERS

    return step


def _parameter(kind: str, operands: Sequence[str]) -> Step:
    where, other = (operands[1], operands[0]) if kind == "ld" else (operands[0], operands[1])
    found = _ADDRESS.match(where)
    if found is None or found[2]:
        raise NotImplementedError(f"a parameter {where!r}")
    name = found[1]
    if kind == "ld":
        return _assigned(other, lambda registers: registers[name], None)
    if other.startswith("%"):
        return lambda warp, registers: registers.__setitem__(name, registers[other])
    value = immediate(other, np.uint64)
    return lambda warp, registers: registers.__setitem__(name, value)


def _copy(name: str, operands: Sequence[str], guarded: Reader | None) -> Step:
    if name == "cp.async.commit_group":
        return lambda warp, registers: warp.copies.commit()
    if name == "cp.async.wait_group":
        most = int(operands[0])
        return lambda warp, registers: warp.copies.wait(most)
    if name.startswith("cp.async.bulk.prefetch"):
        address, length = _address(operands[0], np.uint64), _reader(operands[1], np.uint32)

        def ask(warp: Warp, registers: Registers) -> Outcome:
            active = EVERY if guarded is None else guarded(registers)
            for size in np.unique(length(registers)[active]):
                warp.memory.check(address(registers), int(size), active & (length(registers) == size))
            return None

        return ask
    if not name.startswith(("cp.async.ca.shared.global", "cp.async.cg.shared.global")):
        raise NotImplementedError(name)
    to, source = _address(operands[0], np.uint32), _address(operands[1], np.uint64)
    size = int(operands[2], 0)
    read = _reader(operands[3] if len(operands) > 3 else str(size), np.uint32)

    def start(warp: Warp, registers: Registers) -> Outcome:
        active = EVERY if guarded is None else guarded(registers)
        warp.copies.start(to(registers), source(registers), size, read(registers), active)
        return None

    return start


def _among_lanes(name: str, operands: Sequence[str]) -> Step:
    dtype = TYPES[name.split(".")[-1]]
    value = _reader(operands[1], dtype)
    if name.startswith("redux"):
        reduce = {"add": np.add, "max": np.maximum, "min": np.minimum}[name.split(".")[2]].reduce
        return _assigned(operands[0], lambda registers: np.full(LANES, reduce(value(registers), dtype=dtype), dtype), None)
    where, mode = _reader(operands[2], np.uint32), name.split(".")[2]
    if mode not in ("bfly", "idx") or operands[3] != "31":
        raise NotImplementedError(f"{name} {operands}")

    def taken(registers: Registers) -> Lanes:
        other = where(registers).astype(np.int64)
        return value(registers)[_LANE ^ other if mode == "bfly" else other % LANES]

    return _assigned(operands[0], taken, None)


def _matrix(name: str, operands: Sequence[str]) -> Step:
    if name.startswith("wgmma"):
        return _group_product(name, operands)
    if name.startswith("mma"):
        return _product(name, operands)
    transposed, number = ".trans." in name, int(name.split(".x")[1][0])
    if name.startswith("ldmatrix"):
        names, address = _list(operands[0]), _address(operands[1], np.uint32)

        def load(warp: Warp, registers: Registers) -> Outcome:
            rows = warp.shared.read(address(registers)[: 8 * number], 16, warp.number)
            for index, one in enumerate(names):
                matrix = rows[8 * index : 8 * index + 8]
                _write(registers, one, tensor_cores.from_matrix(matrix, transposed=transposed), None)
            return None

        return load
    readers, address = [_reader(one, np.uint32) for one in _list(operands[1])], _address(operands[0], np.uint32)

    def store(warp: Warp, registers: Registers) -> Outcome:
        rows = [tensor_cores.to_matrix(reader(registers), transposed=transposed) for reader in readers]
        warp.shared.write(address(registers)[: 8 * number], np.concatenate(rows), warp.number)
        return None

    return store


def _product(name: str, operands: Sequence[str]) -> Step:
    if name.endswith("m16n8k16.row.col.f32.bf16.bf16.f32"):
        left, right, sums = tensor_cores.left_bf16, tensor_cores.right_bf16, np.float32
    elif name.endswith("m16n8k32.row.col.satfinite.s32.s8.s8.s32"):
        left, right, sums = tensor_cores.left_int8, tensor_cores.right_int8, np.int32
    else:
        raise NotImplementedError(name)
    names = _list(operands[0])
    rows, columns, before = (
        [_reader(one, dtype) for one in _list(operand)]
        for operand, dtype in zip(operands[1:], (np.uint32, np.uint32, sums), strict=True)
    )

    def step(warp: Warp, registers: Registers) -> Outcome:
        product = left([reader(registers) for reader in rows]) @ right([reader(registers) for reader in columns])
        product = product + tensor_cores.to_sums([reader(registers) for reader in before])
        for one, values in zip(names, tensor_cores.from_sums(product), strict=True):
            _write(registers, one, values, None)
        return None

    return step


def _group_product(name: str, operands: Sequence[str]) -> Step:
    if name.startswith("wgmma.commit_group"):
        return lambda warp, registers: warp.products.commit()
    if name.startswith("wgmma.wait_group"):
        most = int(operands[0])

        def wait(warp: Warp, registers: Registers) -> Outcome:
            for register, values in warp.products.wait(most).items():
                _write(registers, register, values, None)
            return None

        return wait
    found = re.fullmatch(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16\.f32\.bf16\.bf16", name)
    if found is None or operands[4:6] != ("1", "1"):
        raise NotImplementedError(f"{name} {operands}")
    columns, names = int(found[1]), tuple(_list(operands[0]))
    in_registers, turned = operands[1].startswith("{"), [word == "1" for word in operands[6:]]
    left = [_reader(one, np.uint32) for one in _list(operands[1])] if in_registers else []
    descriptors = [_reader(operand, np.uint64) for operand in operands[2 if in_registers else 1 : 3]]
    is_added = _reader(operands[3], np.bool_)

    def start(warp: Warp, registers: Registers) -> Outcome:
        *first, right = (int(one(registers)[0]) for one in descriptors)
        rows = warp.number % 4 * 16
        tile = Tile(first[0], 64, turned[0], rows) if first else [reader(registers) for reader in left]
        before = [as_type(registers[one], np.float32) for one in names] if is_added(registers)[0] else None
        warp.products.start(names, before, tile, Tile(right, columns, turned[-1]))
        for one in names:
            _write(registers, one, NO_NUMBER, None)
        return None

    return start
