"""Mimi's decoding half on a CPU: a frame of codes of some rows of a lane to latents and to audio.

The same network as moshi's modules, with state and memory laid out for one frame at a time. A row's result depends on
its own past alone, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from csm_codec.mimi.cpu.convolutions import Convolutions
from csm_codec.mimi.cpu.frame_kernels import frame_kernels
from csm_codec.mimi.cpu.product import Array, Product, flat
from csm_codec.mimi.cpu.transformer import Rings, Transformer, Turn


class RowState:
    """Of one stream."""

    def __init__(self, latent: Array, rings: list[Rings], kept: list[Array]) -> None:
        self.latent, self.rings, self.kept = latent, rings, kept
        self.begin(0)

    def begin(self, position: int) -> None:
        """Starts at that step of a stream. Keys and values before it are not looked at, so they may stay."""
        self.position = self.first = position
        for array in (self.latent, *self.kept):
            array[:] = 0


class FrameNetwork:
    """The network, with room to work in, and no state."""

    def __init__(self, model: Any, rows: int, dtype: torch.dtype) -> None:
        """model: moshi's MimiModel, one that `is_usual`; it stays as it is. rows: of a lane, at most."""
        self._kernels = kernels = frame_kernels(str(dtype).removeprefix("torch."))
        real = torch.float64 if dtype is torch.float64 else torch.float32
        quantizer, conv = model.quantizer, model.upsample.convtr.convtr.convtr
        self._tables, products = [], []
        for part in (quantizer.rvq_first, quantizer.rvq_rest):
            self._tables.append([layer._codebook.embedding.to(real) for layer in part.vq.layers[: part.n_q]])
            products.append(part.output_proj.weight.squeeze(2))
        self._quantized = Product(torch.cat(products, dim=1), None, rows, real, each=1)
        self._steps: int = conv.stride[0]
        self._upsampling = flat(conv.weight[:, 0].t().to(real).contiguous())
        self._width = conv.in_channels
        self._transformer = Transformer(model.decoder_transformer, kernels, rows, self._steps, dtype)
        self._convolutions = Convolutions(model.decoder, kernels, rows, self._steps, dtype)
        self._frame_size = model.frame_size

    def with_own_memory(self) -> FrameNetwork:
        """The same weights, for another thread."""
        other = copy(self)
        other._quantized = self._quantized.with_own_memory()
        other._transformer = self._transformer.with_own_memory()
        other._convolutions = self._convolutions.with_own_memory()
        return other

    def new_row(self) -> RowState:
        latent = np.zeros(self._width, self._kernels.real)
        return RowState(latent, self._transformer.new_state(), self._convolutions.new_state())

    def step(self, codes: Tensor, states: Sequence[RowState], *, audio: bool) -> Tensor:
        """codes: (rows, codebooks). states: of each row.

        Returns (rows, frame size) float; without `audio`, zeros, and the convolutions' states stay.
        """
        if not states:
            return torch.zeros(0, self._frame_size)
        x = self._latent(codes, states)
        self._transformer.step(x, [Turn(state.position, state.first, state.rings) for state in states])
        pcm = np.zeros((len(states), self._frame_size), self._kernels.real)
        if audio:
            self._convolutions.step(x, [state.kept for state in states], pcm)
        for state in states:
            state.position += self._steps
        return torch.from_numpy(pcm)

    def _latent(self, codes: Tensor, states: Sequence[RowState]) -> Array:
        """What the transformer takes in, (rows * steps * width,)."""
        halves, book = [], 0
        for tables in self._tables:
            parts = [functional.embedding(codes[:, book + i], table) for i, table in enumerate(tables)]
            halves.append(reduce(torch.add, parts))  # in one order for every row
            book += len(tables)
        self._quantized.fill(torch.cat(halves, dim=1))
        latents = self._quantized.multiply(len(states)).reshape(len(states), -1)
        x = np.zeros((len(states), self._steps * self._width), self._kernels.real)
        for row, state in enumerate(states):
            self._kernels.upsample(latents[row], self._upsampling, state.latent, x[row])
        return x.reshape(-1)
