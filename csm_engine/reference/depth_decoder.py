"""The depth decoder stage: codebooks 1..K-1 of one frame, given the backbone's hidden state and codebook 0.

Position 0 holds the hidden state, position i the code of codebook i-1. Its cache lives for one frame and needs no
reset: every position is written before it is read. The last code is never fed back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csm_engine.model.csm import CSM
from csm_engine.reference.sampler import FrameSampler
from csm_engine.reference.torchtune_stacks import run_layers


class DepthDecoder:
    """Runs the depth decoder's layers K-1 times a frame. D: backbone width; K: codebooks; V: audio vocabulary."""

    def __init__(self, model: CSM) -> None:
        """model: in torchtune's stacks"""
        self._model = model
        self._caches = [_FrameCache() for _ in model.depth_decoder.layers]
        for layer, cache in zip(model.depth_decoder.layers, self._caches, strict=True):
            layer.attn.kv_cache = cache
            layer.attn.cache_enabled = True

    def frame(self, hidden: Tensor, code0: Tensor, sampler: FrameSampler) -> Tensor:
        """hidden: (B, D); code0: (B,) int64 -> (B, K) int64 codes of the frame, codebook 0 first."""
        codes = [code0]
        inputs = torch.stack([hidden, self._model.embed_code(code0, 0)], dim=1)  # (B, 2, D)
        for codebook in range(1, self._model.config.num_codebooks):
            logits = self._step(inputs, codebook)
            codes.append(sampler.sample(logits, codebook))
            inputs = self._model.embed_code(codes[-1], codebook).unsqueeze(1)
        return torch.stack(codes, dim=1)

    def logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Teacher forcing. hidden: (B, D); codes: (B, K) int64 -> (B, K - 1, V) of codebooks 1..K-1."""
        inputs = torch.stack([hidden, self._model.embed_code(codes[:, 0], 0)], dim=1)
        all_logits = []
        for codebook in range(1, codes.shape[1]):
            all_logits.append(self._step(inputs, codebook))
            inputs = self._model.embed_code(codes[:, codebook], codebook).unsqueeze(1)
        return torch.stack(all_logits, dim=1)

    def _step(self, inputs: Tensor, codebook: int) -> Tensor:
        """inputs: (B, T, D) ending at position `codebook` -> (B, V) logits of that codebook."""
        batch, length, _ = inputs.shape
        start = codebook + 1 - length
        if start == 0:
            for cache in self._caches:
                cache.clear()
        positions = torch.arange(start, codebook + 1, device=inputs.device).expand(batch, length)
        mask = torch.arange(codebook + 1, device=inputs.device) <= positions.unsqueeze(-1)
        stack = self._model.depth_decoder
        hidden = run_layers(stack, self._model.projection(inputs), mask, positions)[:, -1]
        return hidden @ self._model.audio_head[codebook - 1]


class _FrameCache:
    """Keys and values of the frame in the making, in the shape of torchtune's KVCache: (B, kv_heads, T, head_dim)."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self._keys = keys if self._keys is None else torch.cat([self._keys, keys], dim=2)
        self._values = values if self._values is None else torch.cat([self._values, values], dim=2)
        return self._keys, self._values
