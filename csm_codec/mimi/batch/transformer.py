"""Mimi's decoder transformer for one frame of a batch of rows. All shapes are fixed; positions are on the device.

A row's keys and values are in a ring. A position has its slot there, whichever row computes it, so the order of the
keys in a sum follows from the stream alone. Rows without a frame write to spare slots, which are never read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from moshi.modules.transformer import LayerScale
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from csm_codec.mimi.rope import rope_frequencies

_ALIGNMENT = 8  # slots; attention kernels want masks of whole multiples


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a frame are. The same for all layers."""

    rows: Tensor  # (rows, 1) int64, their numbers
    slots: Tensor  # (rows, steps) int64, of the ring, where this frame's keys go
    mask: Tensor  # (rows, 1, steps, ring): 0 where a step sees a slot, else minus infinity
    rotation: Tensor  # (rows, steps, 1, 1, pairs), complex


class BatchTransformer:
    """The layers. It holds the weights and no state."""

    def __init__(self, module: Any, steps: int, dtype: torch.dtype, real: torch.dtype) -> None:
        """module: moshi's ProjectedTransformer, of such a model. steps: of a frame."""
        layers = module.transformer.layers
        self._layers = [_Layer(layer, dtype) for layer in layers]
        attention = layers[0].self_attn
        self._heads, self._dims = attention.num_heads, attention.embed_dim // attention.num_heads
        self._context, self._steps, self._dtype, self._real = attention.context, steps, dtype, real
        self._ring = self._context + steps  # as on a CPU; the oldest key of the first step is still there
        self.num_slots = -(-(self._ring + steps) // _ALIGNMENT) * _ALIGNMENT
        self.num_layers = len(self._layers)
        device = layers[0].linear1.weight.device
        self._frequencies = rope_frequencies(attention).to(device)
        self._ages = torch.arange(steps, device=device)
        self._slot_numbers = torch.arange(self.num_slots, device=device)

    @property
    def ring_shape(self) -> tuple[int, ...]:
        """Of a row and a layer: slots, keys and values, heads, dimensions."""
        return (self.num_slots, 2, self._heads, self._dims)

    def place(self, rows: Tensor, position: Tensor, first: Tensor, exec_mask: Tensor) -> Place:
        """rows, position, first: (rows,) int64; exec_mask: (rows,). position: of the frame's first step, since the
        start of the stream. first: the first position that the row's ring has been given.
        """
        positions = position[:, None] + self._ages  # (rows, steps)
        spare = self._ring + self._ages
        slots = torch.where(exec_mask[:, None], positions.remainder(self._ring), spare)
        newest = positions[:, -1:]
        # The position that each slot holds once this frame's keys are there.
        held = newest - (newest - self._slot_numbers).remainder(self._ring)  # (rows, slots)
        known = (held >= first[:, None]) & (self._slot_numbers < self._ring)
        age = positions[:, :, None] - held[:, None]  # (rows, steps, slots)
        seen = known[:, None] & (age >= 0) & (age < self._context)
        mask = torch.where(seen, 0.0, -torch.inf).to(self._dtype)[:, None]
        angles = positions[:, :, None] * self._frequencies
        rotation = torch.polar(torch.ones_like(angles), angles)[:, :, None, None]
        if self._real is not torch.float64:
            rotation = rotation.to(torch.complex64)
        return Place(rows[:, None], slots, mask, rotation)

    def step(self, x: Tensor, place: Place, rings: Sequence[Tensor]) -> None:
        """x: (rows, steps, width) in `real`, changed in place. rings: by layer, (rows, *ring_shape), changed."""
        for layer, ring in zip(self._layers, rings, strict=True):
            projected = layer.projected(x).unflatten(2, (3, self._heads, self._dims))
            pairs = projected[:, :, :2].to(self._real).unflatten(4, (-1, 2))
            turned = torch.view_as_real(torch.view_as_complex(pairs) * place.rotation).flatten(4).to(self._dtype)
            ring[:, :, 0][place.rows, place.slots] = turned[:, :, 1]
            ring[:, :, 1][place.rows, place.slots] = projected[:, :, 2]
            query, keys, values = (part.transpose(1, 2) for part in (turned[:, :, 0], ring[:, :, 0], ring[:, :, 1]))
            with _attention_kernel(x.device):
                seen = functional.scaled_dot_product_attention(query, keys, values, place.mask)
            layer.add_attention(x, seen.transpose(1, 2).flatten(2))
            layer.add_feed_forward(x)


class _Layer:
    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        attention = module.self_attn
        self._dtype = dtype
        self._norms = [module.norm1, module.norm2]

        def weight(linear: nn.Linear, scale: nn.Module | None = None) -> Tensor:
            values = linear.weight.detach()
            return (scale.scale.detach()[:, None] * values if isinstance(scale, LayerScale) else values).to(dtype)

        self._project, self._merge = weight(attention.in_projs[0]), weight(attention.out_projs[0], module.layer_scale_1)
        self._widen, self._narrow = weight(module.linear1), weight(module.linear2, module.layer_scale_2)

    def projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side."""
        return functional.linear(self._norms[0](x).to(self._dtype), self._project)

    def add_attention(self, x: Tensor, seen: Tensor) -> None:
        x += functional.linear(seen, self._merge)

    def add_feed_forward(self, x: Tensor) -> None:
        wide = functional.gelu(functional.linear(self._norms[1](x).to(self._dtype), self._widen))
        x += functional.linear(wide, self._narrow)


def _attention_kernel(device: torch.device) -> AbstractContextManager[object]:
    """One backend on a GPU, so that none is chosen by shape."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
