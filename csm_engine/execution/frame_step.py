"""The fast frame step: one frame of each given slot, in few operations over static buffers.

The same function runs inside and outside of a CUDA graph. It computes the same as the reference
(csm_engine/reference/frame_step.py). What changes between steps is kept on the device, by slot; the host passes only
slots. Shapes: B rows; K codebooks; D, d widths of backbone and depth decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_bundle.runtime.captured import on_device
from csm_engine.execution import whole_frame
from csm_engine.execution.depth_weights import DEPTH_KERNEL_ROWS
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.ops.prefetch import launch_prefetch
from csm_engine.execution.ops.prefetch.launch_prefetch import NO_PREFETCH, CachedRows, Prefetch
from csm_engine.execution.prompt_rows import PassTable, PromptRows, rows_in, table_of
from csm_engine.execution.row_threads import RowThreads
from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.execution.weights import PackedStack, PackedWeights
from csm_engine.kv.cache import SlotKVCache
from csm_engine.scheduling.buckets import PROMPT_TILE


class PackedFrameStep:
    """Backbone and depth decoder over packed weights."""

    def __init__(self, weights: PackedWeights, num_slots: int, *, kv_dtype: torch.dtype | None = None) -> None:
        """kv_dtype: type of the KV cache, stored without scales; None takes the weights' type."""
        self.weights = weights
        self.config = weights.config
        self.device = weights.device
        threads = RowThreads(torch.get_num_threads())
        self.backbone = PackedBackbone(weights, num_slots, kv_dtype or weights.dtype, threads)
        self.depth_decoder = PackedDepthDecoder(weights, threads)
        self._compiled = weights.on_cpu is not None
        self._codebook0_head = weights.codebook0_head.first(weights.config.codebook_size)
        self.state = SlotState(weights.config, num_slots, device=weights.device, dtype=weights.dtype)
        self.timer: StageTimer[str] = StageTimer(weights.device)

    def prefill(self, prompts: Sequence[PromptRows]) -> None:
        """Writes the prompts' rows to the KV cache, and starts the slots whose prompts are complete. Each slot once.

        Raises: ValueError with more than MAX_PREFILL_PROMPTS prompts.
        """
        tile = PROMPT_TILE if self.device.type == "cuda" else 1
        self.prefill_pass(on_device(self.prompt_table(prompts, rows_in(prompts, tile), tile), self.device))

    def prompt_table(self, prompts: Sequence[PromptRows], num_rows: int, tile: int) -> Tensor:
        """The table of a pass of `num_rows` rows (prompt_rows.py), on the CPU."""
        return table_of(
            prompts, num_rows, num_codebooks=self.config.num_codebooks, pad_slot=self.state.pad_slot, tile=tile
        )

    def prefill_pass(self, table: Tensor) -> None:
        """table: as `prompt_table` made it, on the step's device. Runs inside and outside of a CUDA graph."""
        rows, weights = PassTable.of(table), self.weights
        tables = weights.audio_embeddings, weights.text_embeddings
        x = ops.embed(rows.ids, *tables, self.config.audio_vocab_size, compiled=self._compiled)
        num_rows = len(rows.slots)
        if num_rows:
            self.backbone.prefill_rows(x[:num_rows], rows.slots, rows.positions)
        self.state.start_rows(
            rows.started,
            x[num_rows:],
            position=rows.first_positions,
            frame=rows.first_frames,
            max_frames=rows.max_frames,
            sampling=rows.sampling,
        )

    def __call__(self, slots: Tensor) -> Tensor:
        """Makes one frame of each row and advances its slot; slots that have ended run as padding.

        slots: (B,) int64, each once -> (B, K + 1) int16: codes, and in the last column an Outcome.
        """
        state, config = self.state, self.weights.config
        with self.timer.measure("backbone"):
            rows = ops.gather(state, slots)
            hidden = self.backbone.step(rows.embedding, rows.slots, rows.position, in_place=True)
            draw = ops.FrameDraw(
                state.sampling,
                rows.slots,
                rows.frame,
                num_codebooks=config.num_codebooks,
                codebook_size=config.codebook_size,
                vocab_size=config.audio_vocab_size,
                compiled=self._compiled,
            )
            logits = ops.linear(hidden, self._codebook0_head)
            _, fed = draw.codes(logits, 0, self.weights.projected_embeddings)
        with self.timer.measure("depth_decoder"):
            codes = self.depth_decoder.frame(hidden, fed, draw)
            table, vocab_size = self.weights.audio_embeddings, config.audio_vocab_size
            return ops.advance(state, rows.slots, codes, table, vocab_size, compiled=self._compiled)


class LayerPrefetch(NamedTuple):
    """What each launch of a layer prefetches into the L2 cache, for later launches to read."""

    by_qkv: Prefetch = NO_PREFETCH
    by_attention: Prefetch = NO_PREFETCH
    by_gates: Prefetch = NO_PREFETCH
    by_down: Prefetch = NO_PREFETCH


_NO_LAYER_PREFETCH = LayerPrefetch()


class PackedBackbone:
    """The backbone: hidden states over the conversation, with a KV cache by slot."""

    def __init__(self, weights: PackedWeights, num_slots: int, kv_dtype: torch.dtype, threads: RowThreads) -> None:
        """threads: of a CPU's kernels"""
        self._stack = weights.backbone
        in_eight_bits = weights.backbone.layers[0].qkv.scale is not None
        self._prefetches = launch_prefetch.enabled and in_eight_bits and weights.stacked_depth is not None
        self.cache = SlotKVCache(weights.config.backbone, num_slots, device=weights.device, dtype=kv_dtype)
        self._on_cpu = whole_frame.cpu_backbone(weights, self.cache, threads)

    def step(self, x: Tensor, slots: Tensor, positions: Tensor, *, in_place: bool = False) -> Tensor:
        """x: (B, D), one position per row; slots, positions: (B,) int64 -> (B, D) hidden. in_place: overwrites x."""
        stack, eps = self._stack, self._stack.config.norm_eps
        x = x if in_place else x.clone()  # layers add to x in place
        if self._on_cpu is not None:
            return self._on_cpu.step(x, slots, positions)
        prefetches = self._prefetches and len(x) <= DEPTH_KERNEL_ROWS
        for index, (layer, cache) in enumerate(zip(stack.layers, self.cache.layers, strict=True)):
            prefetch = self._layer_prefetch(index, slots, positions) if prefetches else _NO_LAYER_PREFETCH
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, eps, prefetch.by_qkv)
            attended = ops.backbone_attention(
                qkv, cache.keys, cache.values, slots, positions, stack, prefetch.by_attention
            )
            x = ops.finish_layer(x, attended, layer, eps, prefetch.by_gates, prefetch.by_down)
        return ops.rms_norm(x, stack.norm, eps)

    def _layer_prefetch(self, index: int, slots: Tensor, positions: Tensor) -> LayerPrefetch:
        """The L2 cache holds two of these at once: gate and up; keys and values; all other matrices of a layer."""
        layers, caches = self._stack.layers, self.cache.layers
        layer, by_down = layers[index], NO_PREFETCH
        if index + 1 < len(layers):
            cache = caches[index + 1]
            by_down = Prefetch(layers[index + 1].qkv.values, CachedRows(cache.keys, cache.values, slots, positions))
        return LayerPrefetch(
            Prefetch(layer.out.values), Prefetch(layer.gate_up.values), Prefetch(layer.down.values), by_down
        )

    def prefill(self, x: Tensor, slot: int, start: int) -> None:
        """Writes keys and values of positions start..start+T-1 of one slot. x: (T, D)."""
        slots = torch.full((len(x),), slot, device=x.device)
        self.prefill_rows(x.clone(), slots, torch.arange(start, start + len(x), device=x.device))

    def prefill_rows(self, x: Tensor, slots: Tensor, positions: Tensor) -> None:
        """Writes keys and values of rows of several slots. A row attends to its own slot up to its own position.

        x: (T, D), overwritten; slots, positions: (T,) int64. The rows of a slot are consecutive and ordered by
        position. On a GPU they begin at a multiple of PROMPT_TILE.
        """
        if self._on_cpu is not None:
            return self._on_cpu.prefill(x, slots, positions)
        stack = self._stack
        for index, (layer, cache) in enumerate(zip(stack.layers, self.cache.layers, strict=True)):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            ops.write_rows(qkv, cache.keys, cache.values, slots, positions, stack)
            if index == len(stack.layers) - 1:
                break  # a prompt's hidden states are not needed: the first frame step runs its last row
            attended = ops.prompt_attention(qkv, cache.keys, cache.values, slots, positions, stack)
            x = ops.finish_layer(x, attended, layer, stack.config.norm_eps)
        return None


class PackedDepthDecoder:
    """The depth decoder: codebooks 1..K-1 of a frame. Its position 0 is the backbone's hidden state, position i the
    code of codebook i - 1.
    """

    def __init__(self, weights: PackedWeights, threads: RowThreads) -> None:
        """threads: of a CPU's kernels"""
        self._weights = weights
        self._stack: PackedStack = weights.depth_decoder
        self._heads = [head.first(weights.config.codebook_size) for head in weights.depth_heads]  # without padding ids
        self._caches: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by number of rows
        self._kernel = whole_frame.depth_frame(weights, threads)

    def frame(self, hidden: Tensor, fed: Tensor | None, draw: ops.FrameDraw) -> Tensor:
        """hidden: (B, D); fed: (B, d) input for the sampled code of codebook 0 -> (B, K) int64, codebook 0 first."""
        weights, last = self._weights, self._weights.config.num_codebooks - 1
        first = ops.linear(hidden, weights.projection)
        kernel = self._kernel
        if kernel is not None and fed is not None and (kernel.most_rows is None or len(hidden) <= kernel.most_rows):
            return kernel.frame(first, fed, draw.drawing)
        caches = self._frame_caches(len(hidden))
        for codebook in range(1, last + 1):
            assert fed is not None
            x = self._run(fed, codebook, caches) if codebook > 1 else self._run_first_two(first, fed, caches)
            logits = ops.norm_linear(x, self._stack.norm, self._heads[codebook - 1], self._stack.config.norm_eps)
            _, fed = draw.codes(logits, codebook, weights.projected_embeddings if codebook < last else None)
        return draw.frame()

    def logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Teacher forcing. hidden: (B, D); codes: (B, K) int64 -> (B, K - 1, V), logits of codebooks 1..K-1."""
        weights, caches = self._weights, self._frame_caches(len(hidden))
        self._run(ops.linear(hidden, weights.projection), 0, caches)
        all_logits = []
        for codebook, head in enumerate(weights.depth_heads, start=1):
            fed = codes[:, codebook - 1] + (codebook - 1) * weights.config.audio_vocab_size
            x = self._run(F.embedding(fed, weights.projected_embeddings), codebook, caches)
            all_logits.append(ops.norm_linear(x, self._stack.norm, head, self._stack.config.norm_eps))
        return torch.stack(all_logits, dim=1)

    def _run(self, x: Tensor, position: int, caches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """x: (B, d), inputs of one position of the frame -> (B, d) before the last norm."""
        stack = self._stack
        for layer, (keys, values) in zip(stack.layers, caches, strict=True):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            attended = ops.depth_attention(qkv, keys, values, position, stack)
            x = ops.finish_layer(x, attended, layer, stack.config.norm_eps)
        return x

    def _run_first_two(self, first: Tensor, second: Tensor, caches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Positions 0 and 1 in one pass, which reads the weights once. first, second: (B, d) -> (B, d) of position 1.

        In two passes if there are more rows than the fused product takes.
        """
        stack, rows = self._stack, len(first)
        if 2 * rows > ops.FUSED_ROWS:
            self._run(first, 0, caches)
            return self._run(second, 1, caches)
        x = torch.cat([first, second])
        for layer, (keys, values) in zip(stack.layers, caches, strict=True):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            attended = ops.depth_attention_of_two(qkv, keys, values, stack)
            if layer is stack.layers[-1]:
                x, attended = x[rows:], attended[rows:]  # later positions need only keys and values of position 0
            x = ops.finish_layer(x, attended, layer, stack.config.norm_eps)
        return x

    def _frame_caches(self, rows: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of one frame, (rows, G, K, E) per layer. Every position is written before it is read."""
        if rows not in self._caches:
            config, like = self._stack.config, self._weights.projected_embeddings
            shape = (rows, config.num_kv_heads, self._weights.config.num_codebooks, config.head_dim)
            self._caches[rows] = [(like.new_empty(shape), like.new_empty(shape)) for _ in self._stack.layers]
        return self._caches[rows]
