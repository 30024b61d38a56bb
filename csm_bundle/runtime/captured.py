"""A function over fixed buffers that a CUDA graph replays, and copies that wait for nothing. On any other device the
function itself runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 2


def graph_pool(device: torch.device) -> Any:
    """Memory that graphs share that never run at the same time. None on other devices than CUDA."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None


class Captured:
    """The function as it was captured. It must read and write the same memory each time, and wait for nothing."""

    def __init__(self, function: Callable[[], None], device: torch.device, pool: Any = None) -> None:
        """Runs the function and captures it. What it leaves in its buffers is of no use.

        pool: of `graph_pool`. Other threads may use the device meanwhile.
        """
        self._run = function
        if device.type != "cuda":
            return
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # it also makes its device the current one, which may be another card
            for _ in range(_WARM_UPS):  # libraries pick algorithms and plans outside of the capture
                function()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                function()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._run = graph.replay

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
