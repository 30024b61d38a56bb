"""The compiled kernels of a CPU, over tensors. Importing needs numba."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_bundle.runtime.panels import PANEL
from csm_engine.execution.cpu_weights import CpuWeights, Floats
from csm_engine.execution.ops.cpu import backbone_kernels
from csm_engine.execution.ops.cpu.backbone_kernels import begin_layer, finish_layer, normalize
from csm_engine.execution.ops.cpu.depth_kernel import depth_frame
from csm_engine.execution.ops.cpu.draw_kernel import draw_codes
from csm_engine.execution.row_threads import RowThreads
from csm_engine.execution.sampling import Drawing, SamplingRows
from csm_engine.execution.weights import PackedLayer, PackedStack
from csm_engine.kv.cache import LayerCache, SlotKVCache
from csm_engine.model.shapes import ModelConfig

Ints = npt.NDArray[np.int64]


def embed(ids: Tensor, audio_embeddings: Tensor, text_embeddings: Tensor | None, vocab_size: int) -> Tensor:
    """ids: (B, K), or (B, K + 1) with the text's id, int64, -1 where masked; embeddings: (K V, D) and (text vocabulary,
    D) -> (B, D), their sums.

    Raises: IndexError for an unknown id of a prompt. Without texts, ids are codes that a frame step has drawn.
    """
    if text_embeddings is not None and len(ids):
        for kind, given, known in (
            ("text", ids[:, -1], len(text_embeddings)),
            ("audio", ids[:, :-1], vocab_size),
        ):
            if (highest := int(given.amax())) >= known:
                raise IndexError(f"{kind} id {highest} is not below {known}")
    x = audio_embeddings.new_empty(len(ids), audio_embeddings.shape[1])
    texts = audio_embeddings if text_embeddings is None else text_embeddings
    num_codebooks = len(audio_embeddings) // vocab_size
    tables = audio_embeddings.numpy(), texts.numpy()
    backbone_kernels.embed(ids.numpy(), num_codebooks, vocab_size, *tables, x.numpy())
    return x


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer's tensors as arrays."""

    qkv: Floats
    out: Floats
    gate_up: Floats
    down: Floats
    attention_norm: Floats
    mlp_norm: Floats
    keys: Floats
    values: Floats

    @classmethod
    def of(cls, layer: PackedLayer, cache: LayerCache) -> _Layer:
        assert layer.attention_norm is not None and layer.mlp_norm is not None  # in panels, they are not folded
        values = (matrix.values for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return cls(*(tensor.numpy() for tensor in (*values, layer.attention_norm, layer.mlp_norm, *cache)))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in the making. x: (B, D); slots, positions: (B,) int64; joint: (B, (H + 2 G) E or more), between the parts
    of a layer.
    """

    x: Floats
    slots: Ints
    positions: Ints
    joint: Floats

    def at(self, rows: slice) -> _Rows:
        return _Rows(self.x[rows], self.slots[rows], self.positions[rows], self.joint[rows])


class CpuBackbone:
    """The backbone's layers, of which frame steps and prefill run the same kernels.

    Rows of the pad slot may be in several groups, which then write its keys and values at the same time. All such rows
    have the slot's one input and position, so they write the same bits.
    """

    def __init__(self, stack: PackedStack, cache: SlotKVCache, threads: RowThreads) -> None:
        """stack: of matrices in panels, with norms"""
        assert stack.norm is not None
        config = stack.config
        self._queries, self._eps, self._threads = config.num_heads * config.head_dim, config.norm_eps, threads
        self._rope, self._norm = stack.rope.numpy(), stack.norm.numpy()
        self._layers = [_Layer.of(*both) for both in zip(stack.layers, cache.layers, strict=True)]

    def step(self, x: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        """One position of each row, each of another slot. x: (B, D), overwritten; slots, positions: (B,) int64
        -> (B, D) hidden.
        """
        hidden, all_rows = torch.empty_like(x), self._rows(x, slots, positions)

        def compute(group: slice) -> None:
            rows = all_rows.at(group)
            for layer in self._layers:
                self._begin(layer, rows)
                self._finish(layer, rows)
            normalize(rows.x, self._norm, self._eps, hidden.numpy()[group])

        self._threads.run(len(x), compute)
        return hidden

    def prefill(self, x: Tensor, slots: Tensor, positions: Tensor) -> None:
        """As PackedBackbone.prefill_rows. No thread attends before all have written a layer's keys and values.

        Raises: IndexError for slots and positions that the cache has not: the kernels do not check.
        """
        rows, before = self._rows(x, slots, positions), None
        num_slots, length = self._layers[0].keys.shape[:2]
        for kind, given, known in (("slot", rows.slots, num_slots), ("position", rows.positions, length)):
            if (highest := given.max(initial=0)) >= known:
                raise IndexError(f"{kind} {highest} is not below {known}")
        for layer in self._layers:

            def compute(group: slice, before: _Layer | None = before, layer: _Layer = layer) -> None:
                mine = rows.at(group)
                if before is not None:
                    self._finish(before, mine)
                self._begin(layer, mine)

            self._threads.run(len(x), compute)
            before = layer

    def _rows(self, x: Tensor, slots: Tensor, positions: Tensor) -> _Rows:
        joint = np.empty((len(x), len(self._layers[0].qkv) * PANEL), np.float32)
        return _Rows(x.numpy(), slots.numpy(), positions.numpy(), joint)

    def _begin(self, layer: _Layer, rows: _Rows) -> None:
        begin_layer(
            rows.x, layer.qkv, layer.attention_norm, self._queries, layer.keys, layer.values, rows.slots,
            rows.positions, self._rope, self._eps, rows.joint,
        )  # fmt: skip

    def _finish(self, layer: _Layer, rows: _Rows) -> None:
        finish_layer(
            rows.x, rows.joint, layer.out, layer.gate_up, layer.down, layer.mlp_norm, layer.keys, layer.values,
            rows.slots, rows.positions, self._eps,
        )  # fmt: skip


class CpuDepthFrame:
    """Makes codebooks 1..K-1 of a frame, in one call for each group of rows."""

    most_rows: int | None = None  # no limit

    def __init__(self, weights: CpuWeights, config: ModelConfig, threads: RowThreads) -> None:
        self._weights, self._config, self._threads = weights, config, threads

    def frame(self, first: Tensor, fed: Tensor, drawing: Drawing) -> Tensor:
        """first, fed: (B, d), inputs of positions 0 and 1 -> (B, K) int64, `drawing.codes`."""
        weights, sampling = self._weights, drawing.sampling.at(drawing.slots)
        stack, num_codes = self._config.depth_decoder, self._config.codebook_size
        inputs = first.contiguous().numpy(), fed.numpy()
        by_row = [values.numpy() for values in (sampling.temperature, sampling.top_k, sampling.seed)]
        by_row += [np.ascontiguousarray(drawing.frame.numpy()), drawing.codes.numpy()]

        def compute(rows: slice) -> None:
            depth_frame(
                *(values[rows] for values in inputs), weights.qkv, weights.out, weights.gate_up, weights.down,
                weights.attention_norms, weights.mlp_norms, weights.norm, weights.heads, weights.inputs,
                weights.rope, stack.norm_eps, stack.num_kv_heads, num_codes, *(values[rows] for values in by_row),
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
        draw_codes(logits.contiguous().numpy(), *self._by, codebook, self._codebook_size, codes.numpy())
        return codes
