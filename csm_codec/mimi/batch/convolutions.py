"""Mimi's stack of convolutions for a batch of rows: the filters of filters.py, each a product over taps side by side.

All shapes are fixed. It holds the weights and no state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from moshi.modules.seanet import SEANetDecoder
from torch import Tensor
from torch.nn import functional

from csm_codec.mimi.filters import CausalFilter, Kind, convolutions


class BatchConvolutions:
    """The layers. Channels lie side by side: (rows, steps, channels)."""

    def __init__(self, decoder: SEANetDecoder, dtype: torch.dtype, real: torch.dtype) -> None:
        """decoder: of a model that `is_usual`. real: type of the last layer, which makes the samples."""
        *layers, (last, _) = convolutions(decoder)
        self._layers = [_Layer(CausalFilter.of(module), kind, dtype) for module, kind in layers]
        conv = last.conv.conv
        self._last_weight = conv.weight[0].detach().to(real)  # (channels, taps)
        self._last_bias = None if conv.bias is None else conv.bias.detach().to(real)
        channels, taps = self._last_weight.shape
        self.kept_shapes = [(layer.kept_steps, layer.channels) for layer in self._layers]
        self.last_kept_shape = (taps - 1, channels)

    def step(
        self, latent: Tensor, kept: Sequence[Tensor], newer: Sequence[Tensor], last_kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """latent: (rows, steps, channels). kept: by layer, (rows, *kept_shape), the newest inputs before this frame.

        Writes what the next frame needs in their place to `newer`. Returns the samples, (rows, samples) in `real`, and
        the next `last_kept`.
        """
        x, y, hidden = latent, None, latent
        for layer, mine, next_mine in zip(self._layers, kept, newer, strict=True):
            match layer.kind:
                case Kind.FIRST:
                    x = layer.apply(x.to(mine.dtype), mine, next_mine)
                case Kind.UP:
                    x = layer.apply(functional.elu(x if y is None else x + y), mine, next_mine)
                case Kind.NARROW:
                    hidden = layer.apply(functional.elu(x), mine, next_mine)
                case Kind.WIDEN:
                    y = layer.apply(functional.elu(hidden), mine, next_mine)
        assert y is not None
        return self._samples(functional.elu(x.to(last_kept.dtype) + y), last_kept)

    def _samples(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """A filter to one channel: each step's product with every tap, and the taps' sum, which copies no input."""
        padded = torch.cat((kept, x), dim=1)
        products = padded @ self._last_weight  # (rows, steps + taps - 1, taps)
        steps, taps = x.shape[1], products.shape[2]
        pcm = products[:, :steps, 0] if self._last_bias is None else products[:, :steps, 0] + self._last_bias
        for tap in range(1, taps):
            pcm = pcm + products[:, tap : tap + steps, tap]
        return pcm, padded[:, steps:]


class _Layer:
    def __init__(self, filter_: CausalFilter, kind: Kind, dtype: torch.dtype) -> None:
        _, self._taps, self.channels = filter_.weight.shape
        self.kind, self.kept_steps = kind, filter_.kept_steps
        self._dilation, self._stride = filter_.dilation, filter_.stride
        self._weight = filter_.weight.detach().flatten(1).to(dtype).contiguous()
        self._bias = None if filter_.bias is None else filter_.bias.detach().to(dtype)

    def apply(self, x: Tensor, kept: Tensor, newer: Tensor) -> Tensor:
        """x: (rows, steps, channels), contiguous. Returns (rows, steps * stride, outputs)."""
        rows, steps, _ = x.shape
        if self.kept_steps:
            padded = torch.cat((kept, x), dim=1)
            newer.copy_(padded[:, steps:])
            x = torch.cat([padded[:, tap * self._dilation :][:, :steps] for tap in range(self._taps)], dim=2)
        made = functional.linear(x.view(rows * steps, -1), self._weight, self._bias)
        return made.view(rows, steps * self._stride, -1)
