"""Offloaded keys and values: copies in host memory, by ticket. The index (offload_index.py) decides what is kept.

On CUDA the memory is pinned. Copies are queued on the device's stream, and the host does not wait for them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csm_engine.kv.cache import SlotKVCache


class OffloadedKV:
    """Entries by ticket. Each is (layers, 2, length, kv_heads, head_dim): one slot's first keys and values."""

    def __init__(self, cache: SlotKVCache) -> None:
        self._cache = cache
        self._entries: dict[int, Tensor] = {}

    def save(self, ticket: int, slot: int, length: int) -> None:
        """Copies the slot's first `length` positions into a new entry."""
        first = self._cache.layers[0].keys
        shape = (len(self._cache.layers), 2, length, *first.shape[2:])
        entry = torch.empty(shape, dtype=first.dtype, pin_memory=first.is_cuda)
        for layer, (keys, values) in zip(self._cache.layers, entry, strict=True):
            keys.copy_(layer.keys[slot, :length], non_blocking=True)
            values.copy_(layer.values[slot, :length], non_blocking=True)
        self._entries[ticket] = entry

    def restore(self, ticket: int, slot: int, length: int) -> None:
        """Copies the entry's first `length` positions into the slot."""
        for layer, (keys, values) in zip(self._cache.layers, self._entries[ticket], strict=True):
            layer.keys[slot, :length].copy_(keys[:length], non_blocking=True)
            layer.values[slot, :length].copy_(values[:length], non_blocking=True)

    def drop(self, ticket: int) -> None:
        del self._entries[ticket]
