"""The fast frame step: one frame of each given slot, in few operations over static buffers.

The same function runs inside and outside of a CUDA graph. Its interface and results are those of the reference
(`csm_engine.reference.frame_step.FrameStep`). The state that varies between steps is on the device, by slot; the host
passes only slots. Shapes: B rows; K codebooks; D, d widths of backbone and depth decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.execution.weights import PackedStack, PackedWeights
from csm_engine.kv.cache import SlotKVCache


class PackedFrameStep:
    """Backbone and depth decoder over packed weights."""

    def __init__(self, weights: PackedWeights, num_slots: int, *, kv_dtype: torch.dtype | None = None) -> None:
        """kv_dtype: type of the KV cache; None takes the weights' type, FLOAT8 is unscaled."""
        self.weights = weights
        self.config = weights.config
        self.device = weights.device
        self.backbone = PackedBackbone(weights, num_slots, kv_dtype or weights.dtype)
        self.depth_decoder = PackedDepthDecoder(weights)
        self._codebook0_head = weights.codebook0_head.first(weights.config.codebook_size)
        backbone = weights.config.backbone
        self.state = SlotState(
            num_slots, backbone.dim, backbone.max_seq_len, device=weights.device, dtype=weights.dtype
        )
        self.timer: StageTimer[str] = StageTimer(weights.device)

    def embed_tokens(self, tokens: Tensor, tokens_mask: Tensor) -> Tensor:
        """tokens, tokens_mask: (T, K + 1) int64 and bool -> (T, D)."""
        config = self.weights.config
        offsets = torch.arange(config.num_codebooks, device=tokens.device) * config.audio_vocab_size
        audio = F.embedding(tokens[:, :-1] + offsets, self.weights.audio_embeddings)
        text = F.embedding(tokens[:, -1:], self.weights.text_embeddings)
        return (torch.cat([audio, text], dim=1) * tokens_mask.unsqueeze(-1)).sum(dim=1)

    def __call__(self, slots: Tensor) -> Tensor:
        """Makes one frame of each row and advances the row's state; rows that have ended run as padding.

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
            )
            logits = ops.linear(hidden, self._codebook0_head)
            _, fed = draw.codes(logits, 0, self.weights.projected_embeddings)
        with self.timer.measure("depth_decoder"):
            codes = self.depth_decoder.frame(hidden, fed, draw)
            return ops.advance(state, rows.slots, codes, self.weights.audio_embeddings, config.audio_vocab_size)


class PackedBackbone:
    """The backbone: hidden states over the conversation, with a KV cache by slot."""

    def __init__(self, weights: PackedWeights, num_slots: int, kv_dtype: torch.dtype) -> None:
        self._stack = weights.backbone
        self.cache = SlotKVCache(weights.config.backbone, num_slots, device=weights.device, dtype=kv_dtype)

    def step(self, x: Tensor, slots: Tensor, positions: Tensor, *, in_place: bool = False) -> Tensor:
        """x: (B, D), one position a row; slots, positions: (B,) int64 -> (B, D) hidden. in_place: overwrites x."""
        stack, x = self._stack, x if in_place else x.clone()  # layers add to x in place
        for layer, cache in zip(stack.layers, self.cache.layers, strict=True):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            attended = ops.backbone_attention(qkv, cache.keys, cache.values, slots, positions, stack)
            x = ops.finish_layer(x, attended, layer, stack.config.norm_eps)
        return ops.rms_norm(x, stack.norm, stack.config.norm_eps)

    def prefill(self, x: Tensor, slot: int, start: int) -> None:
        """x: (T, D) of positions start..start+T-1 of one slot: fills the slot's keys and values."""
        stack, end, x = self._stack, start + len(x), x.clone()
        visible = torch.ones(len(x), end, dtype=torch.bool, device=x.device).tril(start)
        for index, (layer, cache) in enumerate(zip(stack.layers, self.cache.layers, strict=True)):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            query = ops.write_prompt(qkv, cache.keys[slot], cache.values[slot], start, stack)
            if index == len(stack.layers) - 1:
                return  # hidden states of a prompt are not used: its last row enters a frame step
            group = stack.config.num_heads // stack.config.num_kv_heads
            attended = F.scaled_dot_product_attention(
                query.transpose(0, 1).unsqueeze(0),
                cache.keys[slot, :end].to(x.dtype).repeat_interleave(group, dim=1).transpose(0, 1).unsqueeze(0),
                cache.values[slot, :end].to(x.dtype).repeat_interleave(group, dim=1).transpose(0, 1).unsqueeze(0),
                attn_mask=visible,
            )
            x = ops.finish_layer(x, attended[0].transpose(0, 1).flatten(1), layer, stack.config.norm_eps)


class PackedDepthDecoder:
    """The depth decoder: codebooks 1..K-1 of a frame. Position 0 is the hidden state, i the code of codebook i - 1."""

    def __init__(self, weights: PackedWeights) -> None:
        self._weights = weights
        self._stack: PackedStack = weights.depth_decoder
        self._heads = [head.first(weights.config.codebook_size) for head in weights.depth_heads]  # what can be drawn
        self._caches: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by number of rows

    def frame(self, hidden: Tensor, fed: Tensor | None, draw: ops.FrameDraw) -> Tensor:
        """hidden: (B, D); fed: (B, d) input for the drawn code of codebook 0 -> (B, K) int64, codebook 0 first."""
        weights, last = self._weights, self._weights.config.num_codebooks - 1
        caches = self._frame_caches(len(hidden))
        self._run(ops.linear(hidden, weights.projection), 0, caches)
        for codebook in range(1, last + 1):
            assert fed is not None
            x = self._run(fed, codebook, caches)
            logits = ops.norm_linear(x, self._stack.norm, self._heads[codebook - 1], self._stack.config.norm_eps)
            _, fed = draw.codes(logits, codebook, weights.projected_embeddings if codebook < last else None)
        return draw.frame()

    def logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Teacher forcing. hidden: (B, D); codes: (B, K) int64 -> (B, K - 1, V) of codebooks 1..K-1."""
        weights, caches = self._weights, self._frame_caches(len(hidden))
        self._run(ops.linear(hidden, weights.projection), 0, caches)
        all_logits = []
        for codebook, head in enumerate(weights.depth_heads, start=1):
            fed = codes[:, codebook - 1] + (codebook - 1) * weights.config.audio_vocab_size
            x = self._run(F.embedding(fed, weights.projected_embeddings), codebook, caches)
            all_logits.append(ops.norm_linear(x, self._stack.norm, head, self._stack.config.norm_eps))
        return torch.stack(all_logits, dim=1)

    def _run(self, x: Tensor, position: int, caches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """x: (B, d) at that position of the frame -> (B, d) before the last norm."""
        stack = self._stack
        for layer, (keys, values) in zip(stack.layers, caches, strict=True):
            qkv = ops.norm_linear(x, layer.attention_norm, layer.qkv, stack.config.norm_eps)
            attended = ops.depth_attention(qkv, keys, values, position, stack)
            x = ops.finish_layer(x, attended, layer, stack.config.norm_eps)
        return x

    def _frame_caches(self, rows: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of one frame, (rows, G, K, E) a layer; every position is written before it is read."""
        if rows not in self._caches:
            config, like = self._stack.config, self._weights.projected_embeddings
            shape = (rows, config.num_kv_heads, self._weights.config.num_codebooks, config.head_dim)
            self._caches[rows] = [(like.new_empty(shape), like.new_empty(shape)) for _ in self._stack.layers]
        return self._caches[rows]
