"""The compiled kernels of a CPU, over tensors. Importing needs numba."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csm_engine.execution.cpu_weights import CpuWeights
from csm_engine.execution.ops.cpu.frame_kernels import backbone_layer, depth_frame, draw_codes
from csm_engine.execution.row_threads import RowThreads
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.kv.cache import SlotKVCache


class CpuBackbone:
    """The backbone's layers, for one position of each row.

    Rows of the pad slot may be in several groups, which then write its keys and values at the same time. All such rows
    have the slot's one input and position, so they write the same bits.
    """

    def __init__(self, weights: CpuWeights, cache: SlotKVCache, threads: RowThreads) -> None:
        self._stack, self._threads = weights.backbone, threads
        self._caches = [(layer.keys.numpy(), layer.values.numpy()) for layer in cache.layers]

    def layers(self, x: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        """x: (B, D), changed in place; slots, positions: (B,) int64 -> x, before the last norm."""
        stack = self._stack
        all_x, all_slots, all_positions = x.numpy(), slots.numpy(), positions.numpy()

        def compute(rows: slice) -> None:
            group, group_slots, group_positions = all_x[rows], all_slots[rows], all_positions[rows]
            for index, (keys, values) in enumerate(self._caches):
                backbone_layer(
                    group, stack.qkv[index], stack.out[index], stack.gate_up[index], stack.down[index],
                    stack.attention_norms[index], stack.mlp_norms[index], keys, values, group_slots, group_positions,
                    stack.rope, stack.eps,
                )  # fmt: skip

        self._threads.run(len(x), compute)
        return x


class CpuDepthFrame:
    """Makes codebooks 1..K-1 of a frame, in one call for each group of rows."""

    most_rows: int | None = None  # no limit

    def __init__(self, weights: CpuWeights, threads: RowThreads) -> None:
        self._weights, self._threads = weights, threads

    def frame(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Tensor:
        """first, fed: (B, d), inputs of positions 0 and 1 -> (B, K) int64, `drawing.codes`."""
        weights, sampling = self._weights, drawing.sampling.at(drawing.slots)
        stack = weights.depth_decoder
        inputs = first.numpy(), fed.numpy()
        by_row = [values.numpy() for values in (sampling.temperature, sampling.top_k, sampling.seed)]
        by_row += [np.ascontiguousarray(drawing.frame.numpy()), drawing.codes.numpy()]

        def compute(rows: slice) -> None:
            depth_frame(
                *(values[rows] for values in inputs), stack.qkv, stack.out, stack.gate_up, stack.down,
                stack.attention_norms, stack.mlp_norms, stack.norm, weights.depth_heads, weights.depth_inputs,
                stack.rope, stack.eps, stack.num_kv_heads, *(values[rows] for values in by_row),
            )  # fmt: skip

        self._threads.run(len(first), compute)
        return drawing.codes


class CpuDraw:
    """Samples the codes of one frame, as torch_ops.FrameDraw. sampling: of B rows; frame: (B,) int64."""

    def __init__(self, sampling: SamplingRows, frame: Tensor, codebook_size: int) -> None:
        self._by = [
            np.ascontiguousarray(values.numpy())
            for values in (sampling.temperature, sampling.top_k, sampling.seed, frame)
        ]
        self._codebook_size = codebook_size

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        """logits: (B, V or more) of one codebook -> (B,) int64 codes. Ties go to the lowest id."""
        codes = torch.empty(len(logits), dtype=torch.int64)
        draw_codes(logits.numpy(), *self._by, codebook, self._codebook_size, codes.numpy())
        return codes
