"""The backbone's KV cache: one row per slot in every layer. It knows slots and positions, but no requests.

Attention writes and reads the tensors in place. The last slot is a pad slot: rows that only pad a batch write to it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from csm_engine.model.shapes import TransformerConfig


class LayerCache(NamedTuple):
    """One layer's keys and values: (slots + 1, max_seq_len, kv_heads, head_dim) each."""

    keys: Tensor
    values: Tensor


def cache_bytes(config: TransformerConfig, num_slots: int, dtype: torch.dtype) -> int:
    """Bytes that a cache takes at most; on a CPU a page of it takes none until it is written."""
    return 2 * config.num_layers * math.prod(_shape(config, num_slots)) * dtype.itemsize


def _shape(config: TransformerConfig, num_slots: int) -> tuple[int, int, int, int]:
    """Of a layer's keys, and of its values: slots with the pad slot, positions, heads, width."""
    return num_slots + 1, config.max_seq_len, config.num_kv_heads, config.head_dim


class SlotKVCache:
    """Keys and values of `num_slots` slots and the pad slot, in every layer."""

    def __init__(self, config: TransformerConfig, num_slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        shape = _shape(config, num_slots)
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
        tensors = [tensor for layer in self.layers for tensor in layer]
        if tensors[0].itemsize == 1:
            tensors = [tensor.view(torch.uint8) for tensor in tensors]  # float8 would need a launch per tensor
        torch._foreach_copy_([each[target, :length] for each in tensors], [each[source, :length] for each in tensors])
