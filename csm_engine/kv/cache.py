"""The backbone's KV cache: one row per slot in every layer. It knows slots and positions, but no requests.

torchtune's attention calls `kv_cache.update` with new keys and values, and attends over the returned ones. `LayerCache`
writes them at the slots and positions that the current step has selected, and returns the rows of those slots. The last
slot is a pad slot: rows that only pad a batch write to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.model.shapes import TransformerConfig


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


class SlotKVCache:
    """Keys and values of `num_slots` slots and the pad slot: (slots + 1, max_seq_len, kv_heads, head_dim) per layer."""

    def __init__(self, config: TransformerConfig, num_slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        shape = (num_slots + 1, config.max_seq_len, config.num_kv_heads, config.head_dim)
        self.layers = [
            LayerCache(
                torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(shape, device=device, dtype=dtype),
            )
            for _ in range(config.num_layers)
        ]
        self.pad_slot = num_slots

    @property
    def bytes_per_position(self) -> int:
        """Bytes of one position of one slot, in all layers."""
        one = self.layers[0].keys[0, 0]
        return 2 * len(self.layers) * one.numel() * one.element_size()

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot into another; on a GPU in one launch for all layers."""
        tensors = [tensor for layer in self.layers for tensor in (layer.keys, layer.values)]
        if tensors[0].itemsize == 1:
            tensors = [tensor.view(torch.uint8) for tensor in tensors]  # float8 would need a launch per tensor
        torch._foreach_copy_([each[target, :length] for each in tensors], [each[source, :length] for each in tensors])

    def select(self, selection: Selection) -> None:
        for layer in self.layers:
            layer.selection = selection


class LayerCache:
    """One layer's keys and values, in the shape of torchtune's KVCache."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys  # (slots + 1, max_seq_len, kv_heads, head_dim)
        self.values = values
        self.selection: Selection | None = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values: (B, kv_heads, T, head_dim) of the selected positions -> (B, kv_heads, window, head_dim)."""
        assert self.selection is not None, "select a step's slots before running the layers"
        return self._write(self.keys, keys), self._write(self.values, values)

    def _write(self, storage: Tensor, new: Tensor) -> Tensor:
        selection = self.selection
        assert selection is not None
        storage[selection.slots.unsqueeze(-1), selection.positions] = new.transpose(1, 2)
        return storage[:, : selection.window][selection.slots].transpose(1, 2)
