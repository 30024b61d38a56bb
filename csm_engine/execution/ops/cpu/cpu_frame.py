"""The compiled kernels of a CPU, over tensors. Importing needs numba."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csm_engine.execution.cpu_weights import CpuWeights
from csm_engine.execution.ops.cpu.frame_kernels import backbone_layer, depth_frame, draw_codes
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.kv.cache import SlotKVCache


class CpuBackbone:
    """The backbone's layers, for one position of each row."""

    def __init__(self, weights: CpuWeights, cache: SlotKVCache) -> None:
        self._stack = weights.backbone
        self._caches = [(layer.keys.numpy(), layer.values.numpy()) for layer in cache.layers]

    def layers(self, x: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        """x: (B, D), changed in place; slots, positions: (B,) int64 -> x, before the last norm."""
        stack = self._stack
        rows, row_slots, row_positions = x.numpy(), slots.numpy(), positions.numpy()
        for index, (keys, values) in enumerate(self._caches):
            backbone_layer(
                rows, stack.qkv[index], stack.out[index], stack.gate_up[index], stack.down[index],
                stack.attention_norms[index], stack.mlp_norms[index], keys, values, row_slots, row_positions,
                stack.rope, stack.eps,
            )  # fmt: skip
        return x


class CpuDepthFrame:
    """Makes codebooks 1..K-1 of a frame in one call."""

    most_rows: int | None = None  # no limit

    def __init__(self, weights: CpuWeights) -> None:
        self._weights = weights

    def frame(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Tensor:
        """first, fed: (B, d), inputs of positions 0 and 1 -> (B, K) int64, `drawing.codes`."""
        stack, sampling = self._weights.depth_decoder, drawing.sampling.at(drawing.slots)
        depth_frame(
            first.numpy(), fed.numpy(), stack.qkv, stack.out, stack.gate_up, stack.down, stack.attention_norms,
            stack.mlp_norms, stack.norm, self._weights.depth_heads, self._weights.depth_inputs, stack.rope, stack.eps,
            stack.num_kv_heads, sampling.temperature.numpy(), sampling.top_k.numpy(), sampling.seed.numpy(),
            np.ascontiguousarray(drawing.frame.numpy()), drawing.codes.numpy(),
        )  # fmt: skip
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
