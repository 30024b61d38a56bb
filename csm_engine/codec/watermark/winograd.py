"""A gated convolution of the package with fewer multiplications: Winograd's minimal filtering along the bins.

Three by three filters over (bin, frame) are, for each of three frames, a filter of three bins. TILE outputs of such a
filter need TILE + 2 multiplications in place of 3 * TILE: inputs and weights are transformed, multiplied point by
point, added up over frames and channels, and transformed back (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2015). The sum over channels makes each point one matrix product. Rounding is some ten times that of
the plain sum, still about 1e-6 of the result. In bfloat16 only the matrix products are, not the transforms.

Bins are laid out as (TILE, tiles): bin b is [b % TILE, b // TILE]. Channels come last. All matrix products are of one
frame at a time, so that a frame's arithmetic does not depend on what else is in the batch, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.codec.watermark.silentcipher import FEATURES, REPEATS

TILE = 6  # outputs at a time
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # one more than TILE; the last point of all is at infinity
NUM_POINTS = len(POINTS) + 1
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
    """`num_bins` bins in tiles."""

    def __init__(self, num_bins: int) -> None:
        self.num_bins = num_bins
        self.tiles = -(-num_bins // TILE)

    def split(self, x: Tensor) -> Tensor:
        """(frames, num_bins) to (frames, TILE, tiles, 1)"""
        padded = F.pad(x, (0, self.tiles * TILE - self.num_bins))
        return padded.view(len(x), self.tiles, TILE).transpose(1, 2)[..., None].contiguous()

    def join(self, x: Tensor) -> Tensor:
        """(frames, TILE, tiles) to (frames, num_bins)"""
        return x.transpose(1, 2).flatten(1)[:, : self.num_bins]

    def clear_rest(self, x: Tensor) -> Tensor:
        """x, (frames, TILE, tiles, channels), with zeros where there is no bin; in place."""
        if rest := self.tiles * TILE - self.num_bins:
            x[:, TILE - rest :, -1] = 0.0
        return x


class WinogradLayer:
    """One layer of the package: convolution times gate, then batch normalisation with fixed statistics."""

    def __init__(
        self, layer: Any, bins: TiledBins, *, fold_inputs: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        """fold_inputs: one input each for the carrier and for the message, of which the layer has many copies.

        dtype: of the matrix products.
        """
        self._bins, self._dtype = bins, dtype
        norm = layer.bn
        scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        value = layer.conv.weight.double() * scale[:, None, None, None]
        weight = torch.cat((value, layer.gate.weight.double()))  # (outputs, inputs, bins, frames)
        if fold_inputs:
            features, carrier, message = weight.split((FEATURES, REPEATS, REPEATS), dim=1)
            weight = torch.cat((features, carrier.sum(1, keepdim=True), message.sum(1, keepdim=True)), dim=1)
        outputs, weights, inputs = (matrix.to(weight.device) for matrix in transforms())
        # For each of three frames, oldest first: (points, inputs, outputs).
        self._weights = torch.einsum("pk,oikf->fpio", weights, weight).to(dtype).contiguous().unbind()
        self._outputs, self._inputs = outputs.float(), inputs.float()
        self._bias = torch.cat((layer.conv.bias.double() * scale, layer.gate.bias.double())).float()
        self._shift = (norm.bias.double() - norm.running_mean.double() * scale).float()
        self.product_shape = (NUM_POINTS, bins.tiles, len(self._bias))  # of one frame

    def new_products(self, frames: int) -> Tensor:
        """Room for the products of so many frames, (frames, *product_shape)."""
        return torch.empty(frames, *self.product_shape, dtype=self._dtype, device=self._bias.device)

    def transformed(self, x: Tensor) -> Tensor:
        """(frames, TILE, tiles, inputs) to (frames, points, tiles, inputs) of the products' type, for `multiply`."""
        frames, _, tiles, inputs = x.shape
        neighbours = x.new_zeros(frames, NUM_POINTS, tiles, inputs)  # the bin before the tile, the tile, the bin after
        neighbours[:, 1:-1] = x
        neighbours[:, 0, 1:] = x[:, -1, :-1]
        neighbours[:, -1, :-1] = x[:, 0, 1:]
        matrix = self._inputs.expand(frames, -1, -1)
        return torch.bmm(matrix, neighbours.flatten(2)).view(neighbours.shape).to(self._dtype)

    def multiply(self, frames: Sequence[Tensor | None], product: Tensor) -> None:
        """Puts into `product` what three frames in a row, each `transformed`, add up to. None is a frame of zeros.

        The middle one is the frame whose output it is, and is there.
        """
        started = False
        for x, weight in zip(frames, self._weights, strict=True):
            if x is None:
                continue
            if started:
                product.baddbmm_(x, weight)
            else:
                torch.bmm(x, weight, out=product)
            started = True

    def finish(self, products: Tensor) -> Tensor:
        """(frames, *product_shape) to (frames, TILE, tiles, outputs / 2)"""
        frames, _, tiles, outputs = products.shape
        matrix = self._outputs.expand(frames, -1, -1)
        y = torch.bmm(matrix, products.float().flatten(2)).view(frames, TILE, tiles, outputs)
        return self._bins.clear_rest(F.glu(y.add_(self._bias), dim=3).add_(self._shift))
