"""The backbone stage: hidden states over the conversation, with a KV cache row per slot.

It knows embeddings, slots and positions. It does not know codes, sampling or requests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csm_engine.kv.cache import SlotKVCache
from csm_engine.model.csm import CSM
from csm_engine.reference.slot_cache import Selection, SlotLayerCache
from csm_engine.reference.torchtune_stacks import run_layers


class Backbone:
    """Runs the backbone's layers over cached slots. D: width; V: audio vocabulary."""

    def __init__(self, model: CSM, num_slots: int) -> None:
        """model: in torchtune's stacks"""
        self._stack = model.backbone
        self._head = model.codebook0_head
        self.cache = SlotKVCache(model.config.backbone, num_slots, device=model.device, dtype=model.dtype)
        self._layer_caches = [SlotLayerCache(layer) for layer in self.cache.layers]
        for layer, cache in zip(model.backbone.layers, self._layer_caches, strict=True):
            layer.attn.kv_cache = cache
            layer.attn.cache_enabled = True

    def prefill(self, embeddings: Tensor, slot: int, start: int) -> Tensor:
        """embeddings: (T, D) of positions start..start+T-1 of one slot -> (T, D) hidden states."""
        length = embeddings.shape[0]
        positions = torch.arange(start, start + length, device=embeddings.device).unsqueeze(0)
        slots = torch.tensor([slot], device=embeddings.device)
        return self._run(embeddings.unsqueeze(0), Selection(slots, positions, start + length))[0]

    def step(self, embeddings: Tensor, slots: Tensor, positions: Tensor, window: int) -> Tensor:
        """embeddings: (B, D), one position a row; slots, positions: (B,) -> (B, D) hidden states."""
        selection = Selection(slots, positions.unsqueeze(1), window)
        return self._run(embeddings.unsqueeze(1), selection)[:, 0]

    def codebook0_logits(self, hidden: Tensor) -> Tensor:
        """hidden: (B, D) -> (B, V)."""
        return self._head(hidden)

    def _run(self, embeddings: Tensor, selection: Selection) -> Tensor:
        for cache in self._layer_caches:
            cache.selection = selection
        return run_layers(self._stack, embeddings, selection.mask(), selection.positions)
