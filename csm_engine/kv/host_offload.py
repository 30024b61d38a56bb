"""Offloaded keys and values: copies in host memory, by ticket. The index (offload_index.py) decides what is kept.

On CUDA the memory is pinned and allocated in pages, which are reused and never freed. Copies are queued on the device's
stream, and the host does not wait for them. The stream keeps the copies to and from a reused page in order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from csm_engine.kv.cache import SlotKVCache
from csm_engine.kv.offload_index import Page


class OffloadedKV:
    """Entries by ticket. An entry holds the first positions of a slot, in blocks of (layers, 2, positions, kv_heads,
    head_dim): keys, then values.
    """

    def __init__(self, cache: SlotKVCache, page: Page | None = None) -> None:
        """page: size of every block; None stores each entry in one block of its length, which is freed with it."""
        self._cache = cache
        self._page = page
        self._entries: dict[int, list[Tensor]] = {}
        self._free_pages: list[Tensor] = []

    def save(self, ticket: int, slot: int, length: int) -> None:
        """Copies the slot's first `length` positions into a new entry."""
        self._entries[ticket] = self._allocate(length)
        for host, device in self._pairs(ticket, slot, length):
            host.copy_(device, non_blocking=True)

    def restore(self, ticket: int, slot: int, length: int) -> None:
        """Copies the entry's first `length` positions into the slot."""
        for host, device in self._pairs(ticket, slot, length):
            device.copy_(host, non_blocking=True)

    def drop(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            blocks = self._entries.pop(ticket)
            if self._page is not None:
                self._free_pages += blocks

    def _pairs(self, ticket: int, slot: int, length: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The first `length` positions in host memory and in the slot: one pair for the keys and one for the values of
        each layer and block.
        """
        blocks = self._entries[ticket]
        for block, start in zip(blocks, range(0, length, blocks[0].shape[2]), strict=False):  # the entry may be longer
            end = min(start + block.shape[2], length)
            for layer, (keys, values) in zip(self._cache.layers, block, strict=True):
                yield keys[: end - start], layer.keys[slot, start:end]
                yield values[: end - start], layer.values[slot, start:end]

    def _allocate(self, length: int) -> list[Tensor]:
        if self._page is None:
            return [self._new_block(length)]
        num_pages = self._page.pages(length)
        reused = [self._free_pages.pop() for _ in range(min(num_pages, len(self._free_pages)))]
        return reused + [self._new_block(self._page.positions) for _ in range(num_pages - len(reused))]

    def _new_block(self, positions: int) -> Tensor:
        first = self._cache.layers[0].keys
        shape = (len(self._cache.layers), 2, positions, *first.shape[2:])
        return torch.empty(shape, dtype=first.dtype, pin_memory=first.is_cuda)
