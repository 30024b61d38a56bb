"""Mimi's decoder transformer for one frame of the rows of a lane: a few products, and kernels between them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from moshi.modules.transformer import LayerScale
from torch import Tensor, nn

from csm_codec.mimi.cpu.frame_kernels import FrameKernels
from csm_codec.mimi.cpu.product import Array, Product
from csm_codec.mimi.rope import rope_frequencies

Rings = tuple[Array, Array]  # keys and values


class Transformer:
    """The layers, with room to work in, and no state."""

    def __init__(self, module: Any, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype) -> None:
        """module: moshi's ProjectedTransformer, one of a model that `is_usual`. steps: of a frame."""
        self._layers = [_Layer(layer, kernels, rows, steps, dtype) for layer in module.transformer.layers]
        self._steps = steps
        self._frequencies = rope_frequencies(module.transformer.layers[0].self_attn)
        self._kernels = kernels

    def with_own_memory(self) -> Transformer:
        """The same weights, for another thread."""
        other = copy(self)
        other._layers = [layer.with_own_memory() for layer in self._layers]
        return other

    def new_state(self) -> list[Rings]:
        """Keys and values of one row, by layer."""
        return [layer.new_rings() for layer in self._layers]

    def step(self, x: Array, turns: Sequence[Turn]) -> None:
        """x: (rows * steps * width,), changed in place. turns: of each row, in order."""
        angles = [self._angles(turn.position) for turn in turns]
        for index, layer in enumerate(self._layers):
            layer.attend(x, [(turn, turn.rings[index], *angle) for turn, angle in zip(turns, angles, strict=True)])
            layer.feed_forward(x, len(turns) * self._steps)

    def _angles(self, position: int) -> tuple[Array, Array]:
        """Cosines and sines, (steps * pairs,), of a frame that begins there."""
        angles = self._frequencies * torch.arange(position, position + self._steps)[:, None]
        return self._real(angles.cos()), self._real(angles.sin())

    def _real(self, x: Tensor) -> Array:
        return x.flatten().numpy().astype(self._kernels.real)


@dataclass(frozen=True, slots=True)
class Turn:
    """A row that is computed."""

    position: int  # of the frame's first step, since the start of the stream
    first: int  # the first position that the rings have been given
    rings: list[Rings]


class _Layer:
    def __init__(self, module: Any, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype) -> None:
        attention = module.self_attn
        self._kernels, self._steps = kernels, steps
        self._heads, self._context = attention.num_heads, attention.context
        self._ring_size = (self._context + steps) * attention.embed_dim
        self._norms = [_Norm(norm, kernels) for norm in (module.norm1, module.norm2)]

        def product(linear: nn.Linear, scale: nn.Module | None = None) -> Product:
            weight = linear.weight.detach()
            if isinstance(scale, LayerScale):
                weight = scale.scale.detach()[:, None] * weight
            return Product(weight, linear.bias, rows * steps, dtype, each=steps)

        self._project = product(attention.in_projs[0])
        self._merge = product(attention.out_projs[0], module.layer_scale_1)
        self._widen = product(module.linear1)
        self._narrow = product(module.linear2, module.layer_scale_2)

    def with_own_memory(self) -> _Layer:
        other = copy(self)
        other._project, other._merge = self._project.with_own_memory(), self._merge.with_own_memory()
        other._widen, other._narrow = self._widen.with_own_memory(), self._narrow.with_own_memory()
        return other

    def new_rings(self) -> Rings:
        return np.zeros(self._ring_size, self._kernels.stored), np.zeros(self._ring_size, self._kernels.stored)

    def attend(self, x: Array, turns: Sequence[tuple[Turn, Rings, Array, Array]]) -> None:
        self._norms[0](x, self._project.inputs)
        rows = len(turns) * self._steps
        projected = self._project.multiply(rows).reshape(len(turns), -1)
        into = self._merge.inputs[: rows * self._merge.num_inputs].reshape(len(turns), -1)
        for row, (turn, (keys, values), cosines, sines) in enumerate(turns):
            self._kernels.attend(
                projected[row], cosines, sines, self._steps, turn.position, turn.first, self._context, self._heads,
                keys, values, into[row],
            )  # fmt: skip
        self._kernels.add(x, self._merge.multiply(rows))

    def feed_forward(self, x: Array, rows: int) -> None:
        self._norms[1](x, self._widen.inputs)
        self._widen.multiply_gelu(rows, self._narrow)
        self._kernels.add(x, self._narrow.multiply(rows))


class _Norm:
    def __init__(self, norm: nn.LayerNorm, kernels: FrameKernels) -> None:
        self._kernel, self._epsilon = kernels.normalize, norm.eps
        self._weight, self._bias = (p.detach().numpy().astype(kernels.real) for p in (norm.weight, norm.bias))

    def __call__(self, x: Array, into: Array) -> None:
        self._kernel(x, self._weight, self._bias, self._epsilon, into)
