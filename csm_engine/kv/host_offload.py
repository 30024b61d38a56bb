"""Offloaded keys and values: copies in host memory, by ticket. The index (offload_index.py) decides what is kept.

On CUDA the memory is pinned and taken in pages. A page is never given back, but used again. Copies are queued on the
device's stream, and the host does not wait for them: those to and from a page that is used again are in their order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from csm_engine.kv.cache import SlotKVCache
from csm_engine.kv.offload_index import Page


class OffloadedKV:
    """Entries by ticket: one slot's first keys and values, in parts of (layers, 2, positions, kv_heads, head_dim)."""

    def __init__(self, cache: SlotKVCache, page: Page | None = None) -> None:
        """page: of which an entry has several; None keeps each entry in one part of its length, and gives it back."""
        self._cache = cache
        self._page = page
        self._entries: dict[int, list[Tensor]] = {}
        self._free: list[Tensor] = []  # pages

    def save(self, ticket: int, slot: int, length: int) -> None:
        """Copies the slot's first `length` positions into a new entry."""
        self._entries[ticket] = self._parts(length)
        for kept, cached in self._copies(ticket, slot, length):
            kept.copy_(cached, non_blocking=True)

    def restore(self, ticket: int, slot: int, length: int) -> None:
        """Copies the entry's first `length` positions into the slot."""
        for kept, cached in self._copies(ticket, slot, length):
            cached.copy_(kept, non_blocking=True)

    def drop(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            parts = self._entries.pop(ticket)
            if self._page is not None:
                self._free += parts

    def _copies(self, ticket: int, slot: int, length: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The same positions of the entry and of the slot, for each layer's keys and values in each part."""
        parts = self._entries[ticket]
        for part, start in zip(parts, range(0, length, parts[0].shape[2]), strict=False):  # it may have more
            end = min(start + part.shape[2], length)
            for layer, (keys, values) in zip(self._cache.layers, part, strict=True):
                yield keys[: end - start], layer.keys[slot, start:end]
                yield values[: end - start], layer.values[slot, start:end]

    def _parts(self, length: int) -> list[Tensor]:
        """Memory for so many positions."""
        if self._page is None:
            return [self._new(length)]
        return [
            self._free.pop() if self._free else self._new(self._page.positions) for _ in range(self._page.pages(length))
        ]

    def _new(self, positions: int) -> Tensor:
        first = self._cache.layers[0].keys
        shape = (len(self._cache.layers), 2, positions, *first.shape[2:])
        return torch.empty(shape, dtype=first.dtype, pin_memory=first.is_cuda)
