"""SilentCipher's embedding networks for streams that each go their own way: the same numbers as network.py.

network.py keeps a batch of fixed width in step, which suits a GPU. Here any frames of any rows are taken together, also
several of one row, and what lies outside of a clip is not computed at all; what a frame gives does not depend on its
company, bit for bit. Convolutions take half as many multiplications (winograd.py).

It knows no audio: magnitudes in, magnitudes out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_engine.codec.watermark.network import message_table
from csm_engine.codec.watermark.payload import PERIOD
from csm_engine.codec.watermark.silentcipher import SilentCipher
from csm_engine.codec.watermark.winograd import TiledBins, WinogradLayer


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one row's clip."""

    row: int
    index: int  # since the start of the clip; 0 begins a new one
    num_frames: int  # any larger number for a clip whose end is not known yet
    symbols: tuple[int, ...]  # of one period

    def has(self, ago: int) -> bool:
        """Whether the frame so many before is one of the clip's."""
        return 0 <= self.index - ago < self.num_frames

    def symbol(self, ago: int) -> int:
        """On the air at the frame so many before."""
        return self.symbols[(self.index - ago) % PERIOD]


class FrameNetwork:
    """Rows are numbers of the caller's; one that begins is made, and one that begins again forgets what it was."""

    def __init__(self, silentcipher: SilentCipher, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the convolutions."""
        hparams = silentcipher.hparams
        encoder, decoder = silentcipher.carrier_encoder, silentcipher.carrier_decoder
        *decoder_layers, last = decoder.main
        self._num_bins, self._band = hparams.num_bins, hparams.band
        self._amplitude = 10 ** (-hparams.sdr_db / 20)
        self.encoder_lag = len(encoder.main)
        self.lag = self.encoder_lag + len(decoder_layers)  # frames
        self.bins = min(hparams.num_bins, hparams.band + self.lag)  # lowest bins that matter
        self._tiled = TiledBins(self.bins)
        self._layers = [WinogradLayer(layer, self._tiled, dtype=dtype) for layer in encoder.main]
        self._layers += [
            WinogradLayer(layer, self._tiled, fold_inputs=index == 0, dtype=dtype)
            for index, layer in enumerate(decoder_layers)
        ]
        self._last = _Pointwise(last)
        self._messages = self._tiled.split(message_table(encoder, self.bins))  # (symbols, TILE, tiles, 1)
        self._rows: dict[int, _Row] = {}

    @property
    def product_bytes(self) -> int:
        """The most that one frame takes between two layers."""
        return max(4 * math.prod(layer.product_shape) for layer in self._layers)

    def step(self, frames: Sequence[Frame], carriers: Tensor) -> list[Tensor | None]:
        """Takes frames, those of a row in order; gives the message of the frame `lag` before each.

        carriers: (frames, bins) magnitudes; those of frames past the end do not matter.
        Each message is (band,), positive, with an rms over all bins of one over the signal-to-distortion ratio; None
        where there is no such frame.
        """
        x = self._tiled.split(carriers)
        delayed = [self._row(frame).delay(own) for frame, own in zip(frames, x.unbind(), strict=True)]
        inside = [at for at, frame in enumerate(frames) if frame.has(0)]
        if len(inside) < len(frames):
            x = x[inside]
        for index, layer in enumerate(self._layers):
            if index == self.encoder_lag and inside:
                symbols = [frames[at].symbol(ago=index) for at in inside]
                x = self._merged(x, torch.stack([delayed[at] for at in inside]), symbols)
            newest = dict(zip(inside, layer.transformed(x).unbind(), strict=True)) if inside else {}
            inside = [at for at, frame in enumerate(frames) if frame.has(index + 1)]
            x = self._convolved(index, frames, newest, inside)
        messages = dict(zip(inside, self._message(x).unbind(), strict=True)) if inside else {}
        return [messages.get(at) for at in range(len(frames))]

    def without_future(self, frame: Frame, count: int) -> Tensor:
        """The message of the frame `count` after the one of the row's last step, as if `frame`, which it took then,
        were the last of the clip. count: 1 to `lag`; `lag` is `frame` itself, which is the latest that can be asked
        for. The frame asked for must be in the clip. Changes no state.
        """
        row = self._rows[frame.row]
        pasts = list(row.pasts)
        x: Tensor | None = None
        for ahead in range(1, count + 1):  # what follows passes through; layers before the first one see nothing new
            x = None
            for index in range(ahead - 1, self.lag):
                layer, ago = self._layers[index], index - ahead  # of what goes into the layer
                if index == self.encoder_lag and x is not None:
                    x = self._merged(x, row.carriers[ahead - index - 1][None], [frame.symbol(ago)])
                older, old = pasts[index]
                new: Tensor | None = None if x is None else layer.transformed(x)[0]
                pasts[index] = (old, new)
                x = None
                if 0 <= ago + 1 <= frame.index:
                    products = layer.new_products(1)
                    layer.multiply((older, old, new), products[0])
                    x = layer.finish(products)
        assert x is not None
        return self._message(x)[0]

    def forget(self, row: int) -> None:
        self._rows.pop(row, None)

    def _row(self, frame: Frame) -> _Row:
        if frame.index == 0:
            self._rows[frame.row] = _Row(len(self._layers), self.encoder_lag)
        return self._rows[frame.row]

    def _convolved(
        self, index: int, frames: Sequence[Frame], newest: dict[int, Tensor], inside: Sequence[int]
    ) -> Tensor:
        """One layer over the rows' pasts and what is new; (inside, TILE, tiles, outputs) of the frames before."""
        layer = self._layers[index]
        products = layer.new_products(len(inside))
        product = dict(zip(inside, products.unbind(), strict=True))
        for at, frame in enumerate(frames):
            pasts = self._rows[frame.row].pasts
            older, old = pasts[index]
            if at in product:
                layer.multiply((older, old, newest.get(at)), product[at])
            pasts[index] = (old, newest.get(at))
        return layer.finish(products) if inside else products

    def _merged(self, features: Tensor, carriers: Tensor, symbols: Sequence[int]) -> Tensor:
        """What the decoder takes in, (frames, TILE, tiles, FEATURES + 2)."""
        return torch.cat((features, carriers, self._messages[list(symbols)]), dim=3)

    def _message(self, x: Tensor) -> Tensor:
        message = self._tiled.join(self._last(x))[:, : self._band].abs()
        rms = (message.square().sum(dim=1, keepdim=True) / self._num_bins).sqrt()
        return message / rms.clamp_min(torch.finfo(rms.dtype).tiny) * self._amplitude


class _Row:
    """The state of one stream."""

    def __init__(self, num_layers: int, encoder_lag: int) -> None:
        # Of each layer's input, transformed: the two frames before the newest. None is outside of the clip.
        self.pasts: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * num_layers
        self.carriers: deque[Tensor] = deque(maxlen=encoder_lag)  # (TILE, tiles, 1) each, newest last

    def delay(self, carrier: Tensor) -> Tensor:
        """The carrier that came encoder_lag frames before; one that does not matter when there was none."""
        delayed = self.carriers[0] if self.carriers else carrier
        self.carriers.append(carrier)
        return delayed


class _Pointwise:
    """The last layer: one output, from one bin of one frame."""

    def __init__(self, layer: Any) -> None:
        self._weight = torch.cat((layer.conv.weight, layer.gate.weight)).flatten(1)  # (2, inputs)
        self._bias = torch.cat((layer.conv.bias, layer.gate.bias))[:, None]
        norm = layer.bn
        self._scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self._shift = norm.bias - norm.running_mean * self._scale

    def __call__(self, x: Tensor) -> Tensor:
        """(frames, TILE, tiles, inputs) to (frames, TILE, tiles)"""
        y = torch.bmm(self._weight.expand(len(x), -1, -1), x.flatten(1, 2).transpose(1, 2))
        return (F.glu(y.add_(self._bias), dim=1) * self._scale + self._shift).view(x.shape[:3])
