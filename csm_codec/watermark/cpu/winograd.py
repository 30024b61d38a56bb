"""A gated convolution of the package, frame by frame, with few multiplications: Winograd's minimal filtering.

Three by three filters over (bin, frame). Along the bins, TILE outputs of a filter of three taps need TILE + 2
multiplications in place of 3 * TILE: inputs and weights are transformed, multiplied point by point, added up over
channels, and transformed back (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). The sum over
channels makes each point one matrix product.

Along time, two outputs of three frames each need four such products in place of six. With filters a, b, c and frames
x0 to x3, the products are

    m0 = (x0 - x2) a    m1 = (x1 + x2) (a + b + c) / 2    m2 = (x2 - x1) (a - b + c) / 2    m3 = (x1 - x3) c

and the outputs are m0 + m1 + m2 and m1 - m2 - m3. The first output needs no frame after x2, so it does not wait for
the second. Frames take three products and one product in turn; m1 - m2 is kept between the two.

Rounding is some ten times that of the plain sum, still about 1e-6 of the result. With bfloat16, only the matrix
products and their inputs are in bfloat16. A frame's result depends on its row's past alone, bit for bit.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csm_codec.watermark.cpu.frame_kernels import NUM_POINTS, POINTS, TILE, input_kernels, output_kernels
from csm_codec.watermark.networks.silentcipher import scale_and_shift, with_folded_inputs

Rows = npt.NDArray[np.float32]  # (rows, channels): a row of zeros, the bins, zeros (TiledBins)
_TAPS = 3


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """(TILE, points), (points, taps), (points, points), fp64: for outputs, weights and inputs.

    With o, w and i for these, the TILE outputs of filter g over TILE + 2 inputs d are o @ ((w @ g) * (i @ d)).
    """
    points = np.array(POINTS)
    outputs, weights = np.zeros((NUM_POINTS, TILE)), np.zeros((NUM_POINTS, _TAPS))
    inputs = np.zeros((NUM_POINTS, NUM_POINTS))
    for index, point in enumerate(points):
        others = np.delete(points, index)
        outputs[index] = point ** np.arange(TILE)
        weights[index] = point ** np.arange(_TAPS) / np.prod(point - others)
        inputs[index, :-1] = np.poly(others)[::-1]  # the polynomial with these roots, lowest power first
    outputs[-1, -1] = weights[-1, -1] = 1.0
    inputs[-1] = np.poly(points)[::-1]
    return torch.from_numpy(outputs.T), torch.from_numpy(weights), torch.from_numpy(inputs)


class TiledBins:
    """`num_bins` bins as rows that make whole tiles, each with its neighbours."""

    def __init__(self, num_bins: int) -> None:
        self.num_bins = num_bins
        self.tiles = -(-num_bins // TILE)
        self.num_rows = self.tiles * TILE + 2

    def pad(self, x: npt.NDArray[np.float32]) -> Rows:
        """(num_bins, channels) to (rows, channels)"""
        rows = np.zeros((self.num_rows, x.shape[1]), np.float32)
        rows[1 : 1 + self.num_bins] = x
        return rows


@dataclass(frozen=True, slots=True)
class Past:
    """What a layer remembers of a row."""

    older: Rows  # the last input but one
    old: Rows  # the last one
    difference: npt.NDArray[np.float32] | None  # (points * tiles * 2 * outputs,), m1 - m2; None after a pair


class WinogradLayer:
    """One layer of the package: convolution times gate, then batch normalisation with fixed statistics."""

    def __init__(
        self, layer: Any, bins: TiledBins, *, fold_inputs: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        """fold_inputs: see with_folded_inputs. dtype: of the matrix products, float32 or bfloat16."""
        scale, shift = scale_and_shift(layer.bn, torch.float64)
        value = layer.conv.weight.double() * scale[:, None, None, None]
        weight = torch.cat((value, layer.gate.weight.double()))  # (2 * outputs, inputs, bins, frames)
        if fold_inputs:
            weight = with_folded_inputs(weight)
        both, inputs = weight.shape[:2]
        a, b, c = torch.einsum("pk,oikf->fpio", transforms()[1], weight)
        self._first = _Products(torch.cat((a, (a + b + c) / 2, (a - b + c) / 2)).to(dtype), bins.tiles)
        self._second = _Products(-c.to(dtype), bins.tiles)
        self._plain = [_Products(weights.to(dtype), bins.tiles) for weights in (a, b, c)]
        self._bias = torch.cat((layer.conv.bias.double() * scale, layer.gate.bias.double())).float().numpy()
        self._shift = shift.float().numpy()
        self._silence = np.zeros((bins.num_rows, inputs), np.float32)
        self._no_difference = np.zeros(NUM_POINTS * bins.tiles * both, np.float32)
        self._difference_size, self._output_shape = NUM_POINTS * bins.tiles * both, (bins.num_rows, both // 2)
        self._num_bins = bins.num_bins
        narrow = dtype == torch.bfloat16
        self._first_inputs, self._second_inputs = input_kernels(bins.tiles, inputs, narrow)
        self._first_outputs, self._second_outputs = output_kernels(bins.tiles, both // 2, narrow)
        self.workspace_size = self._first.workspace_size
        self.use(torch.empty(self.workspace_size, dtype=dtype))

    def with_own_memory(self) -> WinogradLayer:
        """The same weights, for another thread. `use` must follow."""
        other = copy(self)
        other._first, other._second = copy(self._first), copy(self._second)
        other._plain = [copy(products) for products in self._plain]
        return other

    def use(self, workspace: Tensor) -> None:
        """Sets the scratch memory, at least as large as needed. Layers share one, so that it stays in the caches."""
        for products in (self._first, self._second, *self._plain):
            products.use(workspace)

    def begin(self, x: Rows) -> Past:
        """Takes the first frame of a clip. Returns no output: the first output needs a second frame."""
        return Past(self._silence, x, None)

    def step(self, past: Past, x: Rows | None) -> tuple[Rows, Past]:
        """Takes the next frame of a clip, None after the last one. Returns the output for the frame before it."""
        newest = self._silence if x is None else x
        y, difference = np.empty(self._output_shape, np.float32), None
        if past.difference is None:
            difference = np.empty(self._difference_size, np.float32)
            self._first_inputs(past.older, past.old, newest, self._first.inputs)
            self._first_outputs(self._first.multiply(), self._bias, self._shift, difference, self._num_bins, y)
        else:
            self._second_inputs(past.older, newest, self._second.inputs)
            self._second_outputs(self._second.multiply(), past.difference, self._bias, self._shift, self._num_bins, y)
        return y, Past(past.old, newest, difference)

    def apply(self, older: Rows | None, x: Rows, newer: Rows | None) -> Rows:
        """The output for x between two frames (None outside the clip). Equals `step`'s up to rounding."""
        products, y = None, np.empty(self._output_shape, np.float32)
        for frame, plain in zip((older, x, newer), self._plain, strict=True):
            if frame is not None:
                self._second_inputs(frame, self._silence, plain.inputs)
                products = plain.multiply(add=products is not None)
        self._second_outputs(products, self._no_difference, self._bias, self._shift, self._num_bins, y)
        return y


class _Products:
    """Matrix products of (tiles, inputs) with weights, (products, inputs, outputs)."""

    def __init__(self, weights: Tensor, tiles: int) -> None:
        self._weights = weights.contiguous()
        products, inputs, outputs = weights.shape
        self._input_shape, self._product_shape = (products, tiles, inputs), (products, tiles, outputs)
        self.workspace_size = math.prod(self._input_shape) + math.prod(self._product_shape)

    def use(self, workspace: Tensor) -> None:
        num_inputs = math.prod(self._input_shape)
        inputs, products = workspace[:num_inputs], workspace[num_inputs : self.workspace_size]
        self.inputs, self._outputs = _bits(inputs), _bits(products)
        self._input_tensor, self._product_tensor = inputs.view(self._input_shape), products.view(self._product_shape)

    def multiply(self, add: bool = False) -> npt.NDArray[Any]:
        """What came of `inputs`; both flat, for the kernels. add: to what is in the workspace already."""
        if add:
            self._product_tensor.baddbmm_(self._input_tensor, self._weights)
        else:
            torch.bmm(self._input_tensor, self._weights, out=self._product_tensor)
        return self._outputs


def _bits(x: Tensor) -> npt.NDArray[Any]:
    """As numpy has no bfloat16, its bits."""
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
