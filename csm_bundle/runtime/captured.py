"""A function over fixed buffers that a CUDA graph replays, and copies that wait for nothing. On any other device the
function itself runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

_WARM_UPS = 2

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class GraphPool:
    """What graphs share that never run at the same time: their memory, and the stream on which they are captured.

    The allocator gives what one graph needs no more to the next only on the same stream. And cuBLAS keeps a
    workspace for each stream, of 32 MiB on Hopper.
    """

    handle: Any
    stream: torch.cuda.Stream


def graph_pool(device: torch.device) -> GraphPool | None:
    """None on other devices than CUDA."""
    if device.type != "cuda":
        return None
    return GraphPool(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


@torch.inference_mode()  # torch has tensors of its own for all graphs, which must then all be made in this mode
def capture(function: Callable[[], Result], pool: GraphPool) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Runs a function over fixed buffers, which waits for nothing, and captures it. Other threads may use the device
    meanwhile. Returns its graph, and what it returned while it was captured: tensors that each replay writes.
    """
    stream, device = pool.stream, pool.stream.device
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # it also makes its device the current one, which may be another card
        for _ in range(_WARM_UPS):  # kernels are compiled, libraries pick algorithms and plans outside of the capture
            function()
        with torch.cuda.graph(graph, pool=pool.handle, stream=stream, capture_error_mode="thread_local"):
            result = function()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result


class Captured:
    """The function as it was captured. It must read and write the same memory each time, and wait for nothing."""

    def __init__(self, function: Callable[[], None], device: torch.device, pool: GraphPool | None = None) -> None:
        """Runs the function and captures it. What it leaves in its buffers is of no use.

        pool: of `graph_pool` of that device; None is one of its own.
        """
        self._run = function
        if pool := pool or graph_pool(device):
            self._graph, _ = capture(function, pool)
            self._run = self._graph.replay

    def __call__(self) -> None:
        self._run()


def host_room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros on the host, from where a copy to the device may be queued (`non_blocking`) and not waited for."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Host values on the device. Nothing waits."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def on_host(values: Tensor) -> Tensor:
    """A copy on the host, of what all work queued before has made. Waits for it."""
    if values.device.type != "cuda":
        return values.cpu().clone()
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return copied
