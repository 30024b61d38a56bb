"""CUDA graphs of functions over fixed buffers, and copies between host and device that do not block the host.

On other devices than CUDA the function itself runs.
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
    """The memory and the capture stream that graphs share which never run at the same time.

    The allocator reuses one graph's memory for the next only on the same stream, and cuBLAS allocates a workspace for
    each stream (32 MiB on Hopper).
    """

    handle: Any
    stream: torch.cuda.Stream


def graph_pool(device: torch.device) -> GraphPool | None:
    """A new pool; None on other devices than CUDA."""
    if device.type != "cuda":
        return None
    return GraphPool(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


@torch.inference_mode()  # torch keeps tensors that all graphs share, so all must be captured in the same mode
def capture(function: Callable[[], Result], pool: GraphPool) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Captures a function over fixed buffers that does not synchronize. Other threads may use the device meanwhile.

    Returns the graph, and what the function returned during the capture: tensors that each replay overwrites.
    """
    stream, device = pool.stream, pool.stream.device
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # also makes the stream's device the current one
        for _ in range(_WARM_UPS):  # kernels are compiled and libraries pick their algorithms before the capture
            function()
        with torch.cuda.graph(graph, pool=pool.handle, stream=stream, capture_error_mode="thread_local"):
            result = function()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result


class Captured:
    """A captured function. It must read and write the same memory each time, and not synchronize."""

    def __init__(self, function: Callable[[], None], device: torch.device, pool: GraphPool | None = None) -> None:
        """Runs the function and captures it. Its buffers then have no meaningful content.

        pool: from `graph_pool` of that device; None is a pool of its own.
        """
        self._run = function
        if pool := pool or graph_pool(device):
            self._graph, _ = capture(function, pool)
            self._run = self._graph.replay

    def __call__(self) -> None:
        self._run()


def host_room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros on the host, pinned for CUDA, so that copies to the device can be `non_blocking`."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy of host values on the device. Does not block the host."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def on_host(values: Tensor) -> Tensor:
    """A copy on the host. Blocks until the work queued so far on the current stream is done."""
    if values.device.type != "cuda":
        return values.cpu().clone()
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return copied
