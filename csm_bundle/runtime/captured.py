"""Captures functions over fixed buffers as CUDA graphs, and copies without blocking. On other devices the functions run
as they are.
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
    """The memory and the stream shared by graphs that never run at the same time.

    The allocator reuses one graph's memory for the next only on the same stream, and cuBLAS keeps a workspace per
    stream, of 32 MiB on Hopper.
    """

    handle: Any
    stream: torch.cuda.Stream


def graph_pool(device: torch.device) -> GraphPool | None:
    """A new pool; None on other devices than CUDA."""
    if device.type != "cuda":
        return None
    return GraphPool(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


@torch.inference_mode()  # for all graphs alike, because torch shares internal tensors between them
def capture(function: Callable[[], Result], pool: GraphPool) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Warms up and captures a function over fixed buffers that does not synchronize. Other threads may use the device
    meanwhile. Returns the graph and the function's result: tensors that each replay writes.
    """
    stream, device = pool.stream, pool.stream.device
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # also makes the stream's device the current one
        for _ in range(_WARM_UPS):  # kernels are compiled and algorithms chosen outside of the capture
            function()
        with torch.cuda.graph(graph, pool=pool.handle, stream=stream, capture_error_mode="thread_local"):
            result = function()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result


class Captured:
    """A captured function. It must use the same memory each time, and must not synchronize."""

    def __init__(self, function: Callable[[], None], device: torch.device, pool: GraphPool | None = None) -> None:
        """Runs and captures the function, which leaves arbitrary values in its buffers.

        pool: from `graph_pool` of the device; None makes a new one.
        """
        self._run = function
        if pool := pool or graph_pool(device):
            self._graph, _ = capture(function, pool)
            self._run = self._graph.replay

    def __call__(self) -> None:
        self._run()


def use_own_stream(device: torch.device) -> None:
    """From now on the device runs this thread's work beside that of other threads, which share a stream and so a queue.
    Waits for what they have queued. No effect on other devices than CUDA.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def host_room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros on the host, pinned for a CUDA device, so that copies to it do not block (`non_blocking`)."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Copies host values to the device without blocking."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def on_host(values: Tensor) -> Tensor:
    """Copies values to the host. Waits for all work queued before."""
    if values.device.type != "cuda":
        return values.cpu().clone()
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return copied
