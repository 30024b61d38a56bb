"""Kernels that do many operations in one call: the depth decoder's frame, parts of the backbone's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from csm_engine.execution.row_threads import RowThreads
from csm_engine.execution.sampling import Drawing
from csm_engine.execution.weights import PackedWeights
from csm_engine.kv.cache import SlotKVCache

if TYPE_CHECKING:
    from csm_engine.execution.ops.cpu.cpu_frame import CpuBackbone


class DepthFrame(Protocol):
    """Runs the depth decoder for a whole frame."""

    most_rows: int | None

    def frame(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Tensor:
        """first, fed: (B, d), inputs of positions 0 and 1 -> (B, K) int64, `drawing.codes`."""


def depth_frame(weights: PackedWeights, threads: RowThreads) -> DepthFrame | None:
    """One kernel for the whole frame; None for weights that are not packed for it. threads: of a CPU's kernel."""
    if weights.on_cpu is not None:
        from csm_engine.execution.ops.cpu.cpu_frame import CpuDepthFrame

        return CpuDepthFrame(weights.on_cpu, weights.config, threads)
    if weights.stacked_depth is None or not weights.projected_embeddings.is_cuda:
        return None
    from csm_engine.execution.ops.depth.depth_launches import DepthKernel

    return DepthKernel(weights.stacked_depth)


def cpu_backbone(weights: PackedWeights, cache: SlotKVCache, threads: RowThreads) -> CpuBackbone | None:
    """Kernels for the backbone's layers on a CPU; None for weights that are not packed for them."""
    if weights.on_cpu is None or cache.layers[0].keys.dtype is not torch.float32:
        return None
    from csm_engine.execution.ops.cpu.cpu_frame import CpuBackbone

    return CpuBackbone(weights.backbone, cache, threads)
