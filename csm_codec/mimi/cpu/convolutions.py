"""Mimi's stack of convolutions: a product per layer over the taps of a causal filter (filters.py)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from moshi.modules.seanet import SEANetDecoder
from torch import Tensor

from csm_codec.mimi.cpu.frame_kernels import FrameKernels
from csm_codec.mimi.cpu.product import Array, Product
from csm_codec.mimi.filters import CausalFilter, Kind, convolutions

_OWN_STEPS = 64  # of a row in a layer; so many make a product as fast as those of all rows together


class Convolutions:
    """The layers, with room to work in, and no state. A row's state is one array per layer, from `new_state`."""

    def __init__(
        self, decoder: SEANetDecoder, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype
    ) -> None:
        """decoder: of a model that `is_usual`. steps: of a frame's latent."""
        self._kernels = kernels
        self._layers: list[_Layer] = []
        *layers, (last, _) = convolutions(decoder)
        for module, kind in layers:
            self._layers.append(_Layer(CausalFilter.of(module), kind, kernels, rows, steps, dtype))
            steps *= self._layers[-1].filter.stride
        self._num_shared = sum(layer.is_shared for layer in self._layers)
        conv = last.conv.conv
        self._last_weight = conv.weight[0].t().flatten().numpy().astype(kernels.real)
        self._last_bias = 0.0 if conv.bias is None else float(conv.bias[0])
        self._last_kept = last._padding_total * conv.in_channels
        self._last_size = self._last_kept + steps * conv.in_channels
        self._dtype = dtype
        self._take_memory()

    def with_own_memory(self) -> Convolutions:
        """The same weights, for another thread."""
        other = copy(self)
        other._layers = [layer.with_own_memory() for layer in self._layers]
        other._take_memory()
        return other

    def _take_memory(self) -> None:
        workspace = torch.zeros(max(layer.product.size for layer in self._layers), dtype=self._dtype)
        padded = np.zeros(max(layer.padded_size for layer in self._layers), self._kernels.stored)
        for layer in self._layers:
            layer.use(workspace, padded)
        self._last_padded = np.zeros(self._last_size, self._kernels.real)

    def new_state(self) -> list[Array]:
        """Of one row, in silence."""
        kept = [np.zeros(layer.kept_size, self._kernels.stored) for layer in self._layers]
        return [*kept, np.zeros(self._last_kept, self._kernels.real)]

    def step(self, latent: Array, states: Sequence[Sequence[Array]], pcm: Array) -> None:
        """latent: (rows * steps * channels,). states: of each row. pcm: (rows, samples), written there."""
        values = self._through(self._layers[: self._num_shared], _Values(latent), states)
        for row, state in enumerate(states):
            mine = self._through(self._layers[self._num_shared :], values.of_row(row, len(states)), [state])
            weight, bias, padded = self._last_weight, self._last_bias, self._last_padded
            self._kernels.last(mine.x, mine.y, state[-1], weight, bias, padded, pcm[row])

    def _through(self, layers: Sequence[_Layer], values: _Values, states: Sequence[Sequence[Array]]) -> _Values:
        for layer in layers:
            at = self._layers.index(layer)
            kept = [state[at] for state in states]
            match layer.kind:
                case Kind.FIRST | Kind.UP:
                    values = _Values(layer.apply(values.x, values.y, kept))
                case Kind.NARROW:
                    values.hidden = layer.apply(values.x, None, kept)
                case Kind.WIDEN:
                    assert values.hidden is not None
                    values.y = layer.apply(values.hidden, None, kept)
        return values


@dataclass(slots=True)
class _Values:
    """Between two layers, of all rows or of one."""

    x: Array
    y: Array | None = None
    hidden: Array | None = None

    def of_row(self, row: int, rows: int) -> _Values:
        arrays = (None if a is None else _row(a, row, rows) for a in (self.y, self.hidden))
        return _Values(_row(self.x, row, rows), *arrays)


class _Layer:
    """One layer. One product serves all rows, or, where a row alone has steps enough, each row has its own."""

    def __init__(
        self, filter_: CausalFilter, kind: Kind, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype
    ) -> None:
        """steps: of a row's input."""
        _, self._taps, self._channels = filter_.weight.shape
        self.filter, self.kind, self._kernels, self._steps = filter_, kind, kernels, steps
        self.is_shared = steps < _OWN_STEPS
        weight, rows = filter_.weight.flatten(1), rows if self.is_shared else 1
        self.product = Product(weight, filter_.bias, rows * steps, dtype, each=steps if self.is_shared else 0)
        self.kept_size = filter_.kept_steps * self._channels
        self.padded_size = self.kept_size + steps * self._channels

    def with_own_memory(self) -> _Layer:
        other = copy(self)
        other.product = self.product.with_own_memory()
        return other

    def use(self, workspace: Tensor, padded: Array) -> None:
        """Takes its scratch memory, which layers share, so that it stays in the caches."""
        self.product.use(workspace)
        self._padded = padded

    def apply(self, x: Array, y: Array | None, kept: Sequence[Array]) -> Array:
        """Of each row. kept: theirs."""
        for row, mine in enumerate(kept):
            inputs = self.product.inputs
            where = (mine, self._padded, inputs, row, self._channels, self._taps, self.filter.dilation)
            if self.kind is Kind.FIRST:
                self._kernels.first_taps(_row(x, row, len(kept)), *where)
            elif y is None:
                self._kernels.taps(_row(x, row, len(kept)), *where)
            else:
                self._kernels.summed_taps(_row(x, row, len(kept)), _row(y, row, len(kept)), *where)
        return self.product.multiply(len(kept) * self._steps)


def _row(x: Array, row: int, rows: int) -> Array:
    size = len(x) // rows
    return x[row * size : (row + 1) * size]
