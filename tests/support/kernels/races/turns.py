"""Runs the programs of an interpreted kernel in turns, each until its next atomic operation.

Triton's interpreter runs one program after the other, so a program that waits for another would wait forever. Here each
program is a greenlet, and `choose` says which goes on. A program that looks again at a value that has not changed since
it last looked cannot be chosen. This module knows no barrier and no buffer; it reports to a watcher.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import triton.language as tl
from greenlet import greenlet
from triton.runtime import interpreter

from tests.support.kernels.interpreter import patched_once

Addresses = npt.NDArray[np.uint64]
Choose = Callable[[Sequence[int]], int]

_ACQUIRE, _RELEASE, _BOTH = (
    getattr(interpreter._ir.MEM_SEMANTIC, n) for n in ("ACQUIRE", "RELEASE", "ACQUIRE_RELEASE")
)
_GPU = interpreter._ir.MEM_SYNC_SCOPE.GPU


class Watcher(Protocol):
    """Observes what programs do, in order. Addresses are of bytes, (N,) uint64."""

    def load(self, program: int, addresses: Addresses) -> None: ...

    def store(self, program: int, addresses: Addresses) -> None: ...

    def atomic(self, program: int, address: int, *, acquires: bool, releases: bool, of_gpu: bool, looks: bool) -> None:
        """An atomic operation. looks: whether it adds nothing."""

    def threads_meet(self, program: int) -> None:
        """All threads of the program have reached `tl.debug_barrier`."""

    def prefetches(self, program: int, addresses: Addresses, sizes: npt.NDArray[np.int32]) -> None:
        """A prefetch of that many bytes at each address into the L2 cache."""


class Deadlock(Exception):
    """All running programs wait for values that none of them will change."""


def forward(ready: Sequence[int]) -> int:
    return ready[0]


def backward(ready: Sequence[int]) -> int:
    return ready[-1]


def run_in_turns(
    kernel: Any, programs: int, arguments: Mapping[str, Any], watcher: Watcher, choose: Choose, *, values: bool = True
) -> None:
    """arguments: of the kernel by name. choose: one of the programs that can go on.

    values: False neither reads nor writes floating point values, and products and inputs are zero: what a program does
    must not depend on them. Memory of the arguments is then not touched, but for integers.
    Raises: Deadlock; InterpreterError for what the kernel raises.
    """
    function = kernel.rewrite()
    constants = interpreter.GridExecutor(function, kernel.arg_names, (programs,)).constexprs
    with patched_once() as builder:
        given = {
            name: value if name in constants else interpreter._implicit_cvt(value)
            for name, value in inspect.getcallargs(function, **arguments).items()
        }
        builder.set_grid_dim(programs, 1, 1)
        turns = _Turns(programs, partial(function, **given), watcher, choose)
        for name, hook in _hooks(turns, values).items():
            setattr(builder, name, hook)
        try:
            turns.run()
        finally:
            for name in _hooks(turns, values):
                delattr(builder, name)


class _Turns:
    def __init__(self, programs: int, function: Callable[[], None], watcher: Watcher, choose: Choose) -> None:
        self.current = 0
        self.watcher = watcher
        self._choose = choose
        self._running = {number: greenlet(function) for number in range(programs)}
        self._looking: dict[int, int] = {}  # the address that a program is about to look at
        self._seen: dict[int, int] = {}  # what it saw there, if it has done nothing since
        self._values: dict[int, int] = {}  # by address, of what programs look at

    def run(self) -> None:
        try:
            while self._running:
                ready = [number for number in self._running if not self._waits(number)]
                if not ready:
                    raise Deadlock(f"programs {sorted(self._running)} wait for a value that nobody changes")
                self.current = self._choose(ready)
                interpreter.interpreter_builder.set_grid_idx(self.current, 0, 0)
                running = self._running[self.current]
                running.switch()
                if running.dead:
                    del self._running[self.current]
        finally:
            for running in self._running.values():
                running.throw()  # ends it

    def pause(self, looking_at: int | None) -> None:
        """Lets other programs run. looking_at: the address of the next operation if it adds nothing."""
        if looking_at is None:
            self._looking.pop(self.current, None)
        else:
            self._looking[self.current] = looking_at
            if looking_at not in self._values:
                self._values[looking_at] = _value_at(looking_at)
        greenlet.getcurrent().parent.switch()
        if looking_at is None:
            self._seen.pop(self.current, None)

    def did(self, address: int) -> None:
        """What it paused for. All programs are taken to look at one address only."""
        if self.current in self._looking:
            self._seen[self.current] = self._values[address]
        elif address in self._values:
            self._values[address] = _value_at(address)

    def _waits(self, number: int) -> bool:
        address = self._looking.get(number)
        return address is not None and self._seen.get(number) == self._values[address]


def _value_at(address: int) -> int:
    one = np.ones(1, dtype=bool)
    read = interpreter._interpreter.load(np.array([address], np.uint64), one, np.zeros(1, np.int32), np.dtype(np.int32))
    return int(read[0])


def _hooks(turns: _Turns, values: bool) -> dict[str, Callable[..., Any]]:
    """What stands in place of the builder's functions of these names."""
    builder, watcher, handle = interpreter.interpreter_builder, turns.watcher, interpreter.TensorHandle
    of_class = type(builder)

    def skips(dtype: Any) -> bool:
        return not values and bool(dtype.scalar.is_floating())

    def load(pointers: Any, mask: Any, other: Any, *policy: Any) -> Any:
        watcher.load(turns.current, _unmasked(pointers, mask))
        dtype = pointers.get_element_ty()
        if skips(dtype):
            return handle(np.zeros(pointers.data.shape, interpreter._get_np_dtype(dtype)), dtype)
        return of_class.create_masked_load(builder, pointers, mask, other, *policy)

    def store(pointers: Any, value: Any, mask: Any, *policy: Any) -> Any:
        watcher.store(turns.current, _unmasked(pointers, mask))
        return None if skips(value.dtype) else of_class.create_masked_store(builder, pointers, value, mask, *policy)

    def atomic(operation: Any, pointer: Any, value: Any, mask: Any, sem: Any, scope: Any) -> Any:
        if pointer.data.size != 1 or not mask.data.all():
            raise NotImplementedError("atomic operations of blocks")
        address = int(pointer.data.item())
        looks = operation == interpreter._ir.ATOMIC_OP.ADD and not value.data.any()
        turns.pause(address if looks else None)
        watcher.atomic(
            turns.current,
            address,
            acquires=sem in (_ACQUIRE, _BOTH),
            releases=sem in (_RELEASE, _BOTH),
            of_gpu=scope == _GPU,
            looks=looks,
        )
        result = of_class.create_atomic_rmw(builder, operation, pointer, value, mask, sem, scope)
        turns.did(address)
        return result

    def inline_asm(asm: str, constraints: str, given: list[Any], types: list[Any], pure: bool, pack: int) -> Any:
        if "cp.async.bulk.prefetch.L2.global" in asm:
            watcher.prefetches(turns.current, given[0].data.astype(np.uint64).ravel(), given[1].data.ravel())
        elif "ex2.approx" in asm and not values:
            return _Results(given[0])
        elif not asm.startswith("mov.b32 $0, $1;"):
            raise NotImplementedError(asm)
        return _Results(handle(given[0].data.astype(np.int32), tl.int32))

    def dot(left: Any, right: Any, total: Any, *precision: Any) -> Any:
        return of_class.create_dot(builder, left, right, total, *precision) if values else total

    return {
        "create_masked_load": load,
        "create_masked_store": store,
        "create_atomic_rmw": atomic,
        "create_barrier": lambda: watcher.threads_meet(turns.current),
        "create_inline_asm": inline_asm,
        "create_dot": dot,
    }


class _Results:
    def __init__(self, result: Any) -> None:
        self._result = result

    def get_result(self, index: int) -> Any:
        return self._result


def _unmasked(pointers: Any, mask: Any) -> Addresses:
    addresses: Addresses = pointers.data
    return addresses.ravel() if mask.data.all() else addresses[np.broadcast_to(mask.data, addresses.shape)]
