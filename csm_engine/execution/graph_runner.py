"""The graph runner: frame steps and prefill passes as CUDA graphs, one per bucket of rows.

One launch makes a whole frame, or prefills all prompts of a pass. All graphs are captured at the start. A batch is
padded to the next bucket with the pad slot. The host sends only the list of slots, or the table of a pass; a graph
reads everything else from device memory, by slot. On a CPU the same functions run without graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_bundle.runtime.captured import GraphPool, capture, graph_pool
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.prompt_rows import PromptRows, rows_in
from csm_engine.scheduling.buckets import PROMPT_TILE, bucket_of, buckets_up_to, prefill_buckets_up_to

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _CapturedStep:
    graph: torch.cuda.CUDAGraph
    slots: Tensor  # (bucket,) int64, read by the graph
    rows: Tensor  # (bucket, K + 1) int16, written by the graph


@dataclass(frozen=True, slots=True)
class _CapturedPass:
    graph: torch.cuda.CUDAGraph
    table: Tensor  # as in prompt_rows.py, read by the graph


class GraphRunner:
    """A FrameStep that replays a PackedFrameStep's graphs: same state, same prefill, same call."""

    def __init__(
        self, step: PackedFrameStep, max_rows: int, *, prefill_rows: int = 256, constant_shape: bool = False
    ) -> None:
        """Captures every bucket, the largest first, in one memory pool.

        max_rows: largest batch; prefill_rows: most prompt rows of a pass.
        constant_shape: pad every step and pass to the largest bucket. Matrix products then have the same shape in every
        step, so a row is bit-equal whatever the batch size. Small batches pay for the padding.
        """
        self._step = step
        self.config = step.config
        self.device = step.device
        self.backbone = step.backbone
        self.state = step.state
        self.timer = step.timer
        self._constant_shape = constant_shape
        self._buckets = [max_rows] if constant_shape else buckets_up_to(max_rows)
        self._prefill_buckets = prefill_buckets_up_to(prefill_rows)
        if constant_shape:
            self._prefill_buckets = [0, self._prefill_buckets[-1]]
        self._captured_steps: dict[int, _CapturedStep] = {}
        self._captured_passes: dict[int, _CapturedPass] = {}
        if pool := graph_pool(self.device):
            for rows in reversed(self._prefill_buckets):
                self._captured_passes[rows] = self._capture_pass(rows, pool)
            for bucket in reversed(self._buckets):
                self._captured_steps[bucket] = self._capture_step(bucket, pool)

    def prefill(self, prompts: Sequence[PromptRows]) -> None:
        """As PackedFrameStep.prefill, in one launch.

        Raises: ValueError for more than MAX_PREFILL_PROMPTS prompts, or `prefill_rows` rows in whole tiles.
        """
        if not self._captured_passes:
            if not self._constant_shape:
                return self._step.prefill(prompts)
            bucket = bucket_of(rows_in(prompts, 1), self._prefill_buckets)
            return self._step.prefill_pass(self._step.prompt_table(prompts, bucket, 1))
        bucket = bucket_of(rows_in(prompts, PROMPT_TILE), self._prefill_buckets)
        captured = self._captured_passes[bucket]
        table = self._step.prompt_table(prompts, bucket, PROMPT_TILE)
        captured.table.copy_(table.pin_memory(), non_blocking=True)
        captured.graph.replay()
        return None

    def __call__(self, slots: Tensor) -> Tensor:
        """slots: (B,) int64, each once -> (B, K + 1) int16, K codes and an Outcome, valid until the next call."""
        bucket = bucket_of(len(slots), self._buckets)
        if not self._captured_steps:
            return self._step(self._padded(slots, bucket))[: len(slots)] if self._constant_shape else self._step(slots)
        captured = self._captured_steps[bucket]
        captured.slots.fill_(self.backbone.cache.pad_slot)
        captured.slots[: len(slots)].copy_(slots, non_blocking=True)
        captured.graph.replay()
        return captured.rows[: len(slots)]

    def _padded(self, slots: Tensor, rows: int) -> Tensor:
        return F.pad(slots, (0, rows - len(slots)), value=self.backbone.cache.pad_slot)

    @torch.inference_mode()
    def _capture_step(self, bucket: int, pool: GraphPool) -> _CapturedStep:
        slots = torch.full((bucket,), self.backbone.cache.pad_slot, device=self.device)
        graph, rows = self._capture(lambda: self._step(slots), pool)
        return _CapturedStep(graph, slots, rows)

    @torch.inference_mode()
    def _capture_pass(self, rows: int, pool: GraphPool) -> _CapturedPass:
        table = self._step.prompt_table([], rows, PROMPT_TILE).to(self.device)
        graph, _ = self._capture(lambda: self._step.prefill_pass(table), pool)
        return _CapturedPass(graph, table)

    def _capture(self, function: Callable[[], Result], pool: GraphPool) -> tuple[torch.cuda.CUDAGraph, Result]:
        with self.timer.off():  # events of a captured graph cannot be read
            return capture(function, pool)
