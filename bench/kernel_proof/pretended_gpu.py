"""A pretended GPU: tensors without data look like CUDA tensors, and Triton's launches are recorded.

Nothing runs. A launch is kept with the shapes of its tensors, so that it can later be compiled for sm_90 as on a real
device. Needs TRITON_INTERPRET=0 from the start of the process. It knows nothing of the fast step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction, MockTensor

HOPPER = GPUTarget("cuda", 90, 32)
META = torch.device("meta")


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel. arguments: as given, tensors without data among them; options: by keyword; grid: numbers
    or a function of the options.
    """

    kernel: Any  # JITFunction
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    grid: Any

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    @property
    def must_run_at_once(self) -> int:
        """Programs of a cooperative launch; 0 of any other."""
        return math.prod(self.grid) if self.options.get("launch_cooperative_grid") else 0

    @property
    def named(self) -> dict[str, Any]:
        """The arguments by the kernel's names for them, and the options."""
        return dict(zip(self.kernel.arg_names, self.arguments, strict=False)) | self.options

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: given for name, given in self.named.items() if isinstance(given, Tensor)}

    def variant(self) -> tuple[Any, ...]:
        """What Triton specialises a kernel on: types, divisibility of integers, constants."""
        parameters = self.kernel.params
        positional = tuple(
            "integer"
            if parameters[index].do_not_specialize and isinstance(argument, int)
            else argument
            if parameters[index].is_constexpr
            else _specialized(argument)
            for index, argument in enumerate(self.arguments)
        )
        named = tuple(
            (name, _specialized(value) if isinstance(value, Tensor) else str(value))
            for name, value in sorted(self.options.items())
        )
        return (self.kernel.__module__, self.name, positional, named)

    def compile(self) -> Any:
        """Triton's compiled kernel for Hopper; once for each variant, and kept by Triton on disk."""
        arguments = [_without_data(argument) for argument in self.arguments]
        options = {name: _without_data(value) for name, value in self.options.items()}
        return _RUN(self.kernel, *arguments, grid=(1,), warmup=True, **options)


def _specialized(argument: Any) -> object:
    if isinstance(argument, Tensor):
        return str(argument.dtype)
    if isinstance(argument, int) and not isinstance(argument, bool):
        return "1" if argument == 1 else "multiple of 16" if argument % 16 == 0 else "integer"
    return type(argument).__name__


def _without_data(argument: Any) -> Any:
    return MockTensor(argument.dtype, list(argument.shape)) if isinstance(argument, Tensor) else argument


class _NoDriver:
    """The part of a driver that Triton's compiler uses."""

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return META


_RUN = JITFunction.run


@contextmanager
def pretended_gpu(record: Callable[[Launch], None]) -> Iterator[None]:
    """While it lasts, meta tensors claim to be on CUDA, and each launch is passed to `record`.

    Raises: RuntimeError when this process interprets kernels.
    """
    if knobs.runtime.interpret or os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("TRITON_INTERPRET is 1: kernels of this process are interpreted; start it with 0")

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        record(Launch(self, args, kwargs, grid))

    driver.set_active(_NoDriver())
    torch.Tensor.is_cuda = property(lambda self: self.device.type == "meta")  # type: ignore[assignment]
    JITFunction.run = run
    try:
        yield
    finally:
        JITFunction.run = _RUN
        del torch.Tensor.is_cuda
