"""The graph runner: the fast step as CUDA graphs, one per batch bucket. One launch makes a whole frame.

All graphs are captured before the first use. A batch is padded to the next bucket with the spare slot. Only the list of
slots changes between launches; a graph reads everything else from device memory by slot. On a CPU nothing is captured,
and the same function runs directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.scheduling.buckets import bucket_of, buckets_up_to

_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    slots: Tensor  # (bucket,) int64, read by the graph
    rows: Tensor  # (bucket, K + 1) int16, written by it


class GraphRunner:
    """A Step that replays a PackedFrameStep's graphs: same state, same prefill, same call."""

    def __init__(self, step: PackedFrameStep, max_rows: int, *, constant_shape: bool = False) -> None:
        """Captures every bucket for batches of up to `max_rows`, the largest first, in one memory pool.

        constant_shape: use one bucket, the largest. Matrix products then have the same shape in every step, so a row's
        bits do not depend on the batch size. Small batches pay for the padding.
        """
        self._step = step
        self.config = step.config
        self.device = step.device
        self.backbone = step.backbone
        self.state = step.state
        self.timer = step.timer
        self.embed_tokens = step.embed_tokens
        self._constant_shape = constant_shape
        self._buckets = [max_rows] if constant_shape else buckets_up_to(max_rows)
        self._captured: dict[int, _Captured] = {}
        if self.device.type == "cuda":
            pool = torch.cuda.graph_pool_handle()
            for bucket in reversed(self._buckets):
                self._captured[bucket] = self._capture(bucket, pool)

    def __call__(self, slots: Tensor) -> Tensor:
        """slots: (B,) int64, each once -> (B, K + 1) int16 K codes and an Outcome, valid until the next call."""
        bucket = bucket_of(len(slots), self._buckets)
        if not self._captured:
            return self._step(self._padded(slots, bucket))[: len(slots)] if self._constant_shape else self._step(slots)
        captured = self._captured[bucket]
        captured.slots.fill_(self.backbone.cache.pad_slot)
        captured.slots[: len(slots)].copy_(slots, non_blocking=True)
        captured.graph.replay()
        return captured.rows[: len(slots)]

    def _padded(self, slots: Tensor, rows: int) -> Tensor:
        return F.pad(slots, (0, rows - len(slots)), value=self.backbone.cache.pad_slot)

    @torch.inference_mode()
    def _capture(self, bucket: int, pool: Any) -> _Captured:
        slots = torch.full((bucket,), self.backbone.cache.pad_slot, device=self.device)
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with self.timer.off(), torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):  # compiles kernels and picks algorithms outside of the capture
                self._step(slots)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with self.timer.off(), torch.cuda.graph(graph, pool=pool):
            rows = self._step(slots)
        return _Captured(graph, slots, rows)
