"""The slots of a KV cache for torchtune's attention.

It calls `kv_cache.update` with new keys and values, and attends over the returned ones. `SlotLayerCache` writes them at
the slots and positions that the current step has selected, and returns the rows of those slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.kv.cache import LayerCache


@dataclass(frozen=True, slots=True)
class Selection:
    """The positions that the current step writes, and the keys that it reads.

    slots: (B,) int64; positions: (B, T) int64; window: keys 0..window-1 are read; known to the host.
    """

    slots: Tensor
    positions: Tensor
    window: int

    def mask(self) -> Tensor:
        """(B, T, window) bool: each query attends to the keys up to its own position."""
        keys = torch.arange(self.window, device=self.positions.device)
        return keys <= self.positions.unsqueeze(-1)


class SlotLayerCache:
    """One layer's keys and values, with the interface of torchtune's KVCache."""

    def __init__(self, layer: LayerCache) -> None:
        self._layer = layer
        self.selection: Selection | None = None  # of the current step

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values: (B, kv_heads, T, head_dim) of the selected positions -> (B, kv_heads, window, head_dim)."""
        return self._write(self._layer.keys, keys), self._write(self._layer.values, values)

    def _write(self, storage: Tensor, new: Tensor) -> Tensor:
        selection = self.selection
        assert selection is not None, "select a step's slots before running the layers"
        storage[selection.slots.unsqueeze(-1), selection.positions] = new.transpose(1, 2)
        return storage[:, : selection.window][selection.slots].transpose(1, 2)
