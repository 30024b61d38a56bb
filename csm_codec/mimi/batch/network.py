"""Mimi's decoding half for a batch of rows: a frame of codes to latents and audio, in a fixed sequence of operations.

All that varies between frames is in device memory: states by row, and a table of numbers that the host writes before
each frame. So a CUDA graph can hold a frame, and the same function runs on a CPU. A row's result depends on its own
past and, as a library may add in another order for another shape, on the number of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from csm_codec.mimi.batch.convolutions import BatchConvolutions
from csm_codec.mimi.batch.transformer import BatchTransformer

# Columns of the table behind the codes: position of the frame's first step, the row's first one, whether it takes part.
POSITION, FIRST, TAKES_PART, NUM_COLUMNS = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class BatchState:
    """Of all rows, at fixed addresses. Rows first."""

    latent: Tensor  # (rows, width), of the last frame
    rings: tuple[Tensor, ...]  # by layer, (rows, slots, 2, heads, dims)
    kept: Tensor  # (rows, values): what all convolutions but the last one keep, side by side
    last_kept: Tensor  # (rows, steps, channels)

    def of(self, rows: int) -> BatchState:
        """The first so many rows: the same memory."""
        rings = tuple(ring[:rows] for ring in self.rings)
        return BatchState(self.latent[:rows], rings, self.kept[:rows], self.last_kept[:rows])

    def begin(self, rows: Tensor) -> None:
        """Starts streams in these rows, (N,) int64. Keys and values from before are not looked at, so they stay."""
        for state in (self.latent, self.kept, self.last_kept):
            state.index_fill_(0, rows, 0)

    def forget(self, rows: Tensor | slice) -> None:
        """Clears these rows: a mask does not hide keys and values that are not finite."""
        for state in (self.latent, *self.rings, self.kept, self.last_kept):
            state[rows] = 0


class BatchNetwork:
    """The network; it holds no state."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """model: moshi's MimiModel, one that `is_usual`; it stays as it is. dtype: of all but the quantizer."""
        real = torch.float64 if dtype is torch.float64 else torch.float32
        quantizer, conv = model.quantizer, model.upsample.convtr.convtr.convtr
        parts = (quantizer.rvq_first, quantizer.rvq_rest)
        books = [layer._codebook.embedding.to(real) for part in parts for layer in part.vq.layers[: part.n_q]]
        self._books = torch.cat(books)  # (codebooks * codes, width)
        self._num_first = parts[0].n_q
        self.num_codebooks = len(books)
        self.device, self._dtype, self._real = self._books.device, dtype, real
        self._starts = torch.arange(len(books), device=self.device) * len(books[0])
        projections = [part.output_proj.weight.detach().squeeze(2) for part in parts]
        self._projection = torch.cat(projections, dim=1).to(real)  # (width, both parts' widths)
        self.steps: int = conv.stride[0]
        weight = conv.weight.detach()[:, 0].t().to(real).contiguous()  # (2 * steps, width)
        self._now, self._before = weight[: self.steps], weight[self.steps :]
        self._width, self._frame_size = conv.in_channels, model.frame_size
        self._transformer = BatchTransformer(model.decoder_transformer, self.steps, dtype, real)
        self._convolutions = BatchConvolutions(model.decoder, dtype, real)

    def new_state(self, rows: int) -> BatchState:
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, *shape, dtype=dtype, device=self.device)

        transformer, convolutions = self._transformer, self._convolutions
        kept_size = sum(math.prod(shape) for shape in convolutions.kept_shapes)
        return BatchState(
            zeros(self._width, dtype=self._real),
            tuple(zeros(*transformer.ring_shape, dtype=self._dtype) for _ in range(transformer.num_layers)),
            zeros(kept_size, dtype=self._dtype),
            zeros(*convolutions.last_kept_shape, dtype=self._real),
        )

    def new_table(self, rows: int) -> Tensor:
        """The numbers of a frame, (rows, codebooks + NUM_COLUMNS) int64: codes, then the columns above. All rest."""
        return torch.zeros(rows, self.num_codebooks + NUM_COLUMNS, dtype=torch.int64, device=self.device)

    def new_pcm(self, rows: int) -> Tensor:
        """Room for the samples of a frame, (rows, samples)."""
        return torch.zeros(rows, self._frame_size, dtype=self._real, device=self.device)

    def step(self, table: Tensor, state: BatchState, pcm: Tensor | None) -> None:
        """One frame of the rows that take part. pcm: where the samples go; None stops at the latents, and leaves the
        convolutions' states. What other rows get is of no use. Nothing here waits for the device.
        """
        codes, numbers = table[:, : self.num_codebooks], table[:, self.num_codebooks :]
        exec_mask = numbers[:, TAKES_PART] > 0
        place = self._transformer.place(
            torch.arange(len(table), device=self.device), numbers[:, POSITION], numbers[:, FIRST], exec_mask
        )
        x = self._upsampled(self._latent(codes), state, exec_mask)
        self._transformer.step(x, place, state.rings)
        if pcm is not None:
            self._sound(x, state, exec_mask, pcm)

    def _latent(self, codes: Tensor) -> Tensor:
        """(rows, width)"""
        found = functional.embedding(codes + self._starts, self._books)  # (rows, codebooks, width)
        halves = (found[:, : self._num_first].sum(1), found[:, self._num_first :].sum(1))
        return functional.linear(torch.cat(halves, dim=1), self._projection)

    def _upsampled(self, latent: Tensor, state: BatchState, exec_mask: Tensor) -> Tensor:
        """(rows, steps, width), what the transformer takes in."""
        x = torch.addcmul(state.latent[:, None] * self._before, latent[:, None], self._now)
        torch.where(exec_mask[:, None], latent, state.latent, out=state.latent)
        return x

    def _sound(self, latent: Tensor, state: BatchState, exec_mask: Tensor, pcm: Tensor) -> None:
        newer = torch.empty_like(state.kept)
        made, last_kept = self._convolutions.step(
            latent, self._by_layer(state.kept), self._by_layer(newer), state.last_kept
        )
        pcm.copy_(made)
        torch.where(exec_mask[:, None], newer, state.kept, out=state.kept)
        torch.where(exec_mask[:, None, None], last_kept, state.last_kept, out=state.last_kept)

    def _by_layer(self, kept: Tensor) -> list[Tensor]:
        """Views of each layer's part, (rows, steps, channels)."""
        shapes = self._convolutions.kept_shapes
        parts = kept.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
