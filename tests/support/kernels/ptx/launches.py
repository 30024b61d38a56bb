"""Runs Triton's launches on a CPU: compiled for sm_90, and executed instruction by instruction on CPU tensors.

Needs TRITON_INTERPRET=0 from the start of the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.kernel_proof.pretended_gpu import Launch, pretended_gpu
from tests.support.kernels.ptx.instructions import kernel_of
from tests.support.kernels.ptx.memory import GlobalMemory, SharedMemory
from tests.support.kernels.ptx.values import LANES, Lanes
from tests.support.kernels.ptx.warp import Event, Kernel, Warp

_SLICE = 400  # instructions of a warp at a time, at most
_MOST_STEPS = 10**8

kernel = cache(kernel_of)


@contextmanager
def compiled_kernels(seed: int = 0, edit: Callable[[str], str] = str) -> Iterator[list[str]]:
    """While it lasts, CPU tensors claim to be on CUDA, and launches run here. Yields the names of launched kernels.

    edit: of the compiled text, for tests of faults.
    """
    order, ran = random.Random(seed), list[str]()

    def run_it(launch: Launch) -> None:
        run(launch, order, edit)
        ran.append(launch.name)

    with pretended_gpu(run_it):
        told = torch.Tensor.is_cuda
        torch.Tensor.is_cuda = property(lambda self: True)  # type: ignore[assignment]
        try:
            yield ran
        finally:
            torch.Tensor.is_cuda = told


def run(launch: Launch, order: random.Random, edit: Callable[[str], str] = str) -> None:
    """Runs all programs: together if the launch is cooperative, otherwise one by one. Warps alternate at random."""
    compiled = launch.compile()
    memory = GlobalMemory(list(launch.tensors.values()))
    grid = _grid(launch)
    given = _parameters(launch, compiled, memory)
    code = kernel(edit(compiled.asm["ptx"]))
    places = [place[::-1] for place in product(*(range(size) for size in reversed(grid)))]

    def program(place: tuple[int, ...]) -> _Program:
        return _Program(code, place, grid, memory, given, compiled.metadata)

    if launch.must_run_at_once:
        _take_turns([program(place) for place in places], order)
    else:
        order.shuffle(places)
        for place in places:
            _take_turns([program(place)], order)


class _Program:
    """A program: its warps, and those that wait at its barrier."""

    def __init__(
        self, code: Kernel, place: tuple[int, ...], grid: tuple[int, ...], memory: GlobalMemory,
        given: list[Lanes], metadata: Any,
    ) -> None:  # fmt: skip
        shared = SharedMemory(max(int(metadata.shared), 1))
        self.shared, self.waiting = shared, set[int]()
        self.running: dict[int, Warp] = {}
        for number in range(metadata.num_warps):
            special = {"%tid.x": np.arange(number * LANES, (number + 1) * LANES, dtype=np.uint32)}
            for axis, here, size in zip("xyz", place, grid, strict=True):
                special[f"%ctaid.{axis}"] = np.full(LANES, here, np.uint32)
                special[f"%nctaid.{axis}"] = np.full(LANES, size, np.uint32)
            warp = Warp(code, number, memory, shared, special)
            warp.enter(code.entry, dict(zip(code.functions[code.entry].parameters, given, strict=True)))
            self.running[number] = warp

    @property
    def able(self) -> list[int]:
        return [number for number in self.running if number not in self.waiting]

    def advance(self, number: int, most: int) -> Event:
        event = self.running[number].run(most)
        if event is Event.BARRIER:
            self.waiting.add(number)
        elif event is Event.ENDED:
            del self.running[number]
        if self.waiting and not self.able:
            self.waiting.clear()
            self.shared.barrier()
        return event


def _take_turns(programs: list[_Program], order: random.Random) -> None:
    for _ in range(_MOST_STEPS):
        if not programs:
            return
        one = order.choice(programs)
        number = order.choice(one.able)
        event = Event.TIRED
        while event is Event.TIRED and order.random() < 0.9:  # mostly to its next barrier, sometimes not
            event = one.advance(number, order.randint(1, _SLICE))
        if not one.running:
            programs.remove(one)
    raise RuntimeError("the programs do not end")


def _grid(launch: Launch) -> tuple[int, ...]:
    grid = launch.grid(launch.options) if callable(launch.grid) else launch.grid
    return (*grid, 1, 1)[:3]


def _parameters(launch: Launch, compiled: Any, memory: GlobalMemory) -> list[Lanes]:
    """The kernel's parameters: the arguments that are not constants, and two unused pointers to scratch memory."""
    given = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False)) | launch.options
    values: list[Lanes] = []
    for name, kind in compiled.src.signature.items():
        if kind != "constexpr":
            values.append(_lanes(given[name], kind, memory))
    return [*values, *[np.zeros(LANES, np.uint64)] * 2]


def _lanes(argument: Any, kind: str, memory: GlobalMemory) -> Lanes:
    if isinstance(argument, Tensor):
        return np.full(LANES, memory.address(argument), np.uint64)
    if kind.startswith("fp"):
        return np.full(LANES, argument, np.float32).view(np.uint32)
    if kind in ("i64", "u64"):
        return np.full(LANES, argument, np.int64).view(np.uint64)
    if kind in ("i32", "u32"):
        return np.full(LANES, argument, np.int64).astype(np.uint32)
    raise NotImplementedError(f"an argument of {kind}")
