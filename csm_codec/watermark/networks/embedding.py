"""SilentCipher's embedding networks frame by frame: the same numbers as over the whole clip.

The package convolves with 3 x 3 filters over (bin, frame). Here each layer keeps the two frames before the newest and
lags one frame behind its input. Outside the clip a layer's output is zero, as with the package's zero padding. Only the
message band and the bins that leak into it are computed. The package repeats carrier and message over 32 channels each;
here each is one channel with summed weights. Convolution and gate are one matrix. The three frames are channels of a
convolution over bins.

The look-ahead may also be cut off: frames after the newest then count as past the end of the clip. Only the layers that
the newest frame has not reached yet are computed again for that.

Rows of a batch are streams, each at its own frame. It knows no audio: magnitudes in, magnitudes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_codec.watermark.networks.silentcipher import SilentCipher, scale_and_shift, with_folded_inputs


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows are in a step, and where each is in its clip."""

    frame: Tensor  # (rows,); those of rows that rest are of no use
    num_frames: Tensor  # (rows,); any larger number for a clip whose end is not known yet
    exec_mask: Tensor  # (rows,)

    def keep(self, new: Tensor, state: Tensor) -> None:
        """Puts the new state of rows that take part in place of the old one."""
        mask = self.exec_mask.view(-1, *(1,) * (new.dim() - 1))
        torch.where(mask, new, state, out=state)


class EmbedNetwork:
    """The networks over `width` streams. Every buffer holds a part of each row's state, at a fixed address.

    All shapes are fixed, and nothing waits for the device. A step may take the first so many rows alone.
    """

    def __init__(self, silentcipher: SilentCipher, width: int, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the convolutions."""
        hparams = silentcipher.hparams
        encoder, decoder = silentcipher.carrier_encoder, silentcipher.carrier_decoder
        *decoder_layers, last = decoder.main
        self._num_bins, self._band = hparams.num_bins, hparams.band
        self.encoder_lag, decoder_lag = len(encoder.main), len(decoder_layers)
        self.lag = self.encoder_lag + decoder_lag  # frames
        self.bins = min(hparams.num_bins, hparams.band + self.lag)  # lowest bins that matter
        device = silentcipher.device
        self._amplitude = 10 ** (-hparams.sdr_db / 20)
        layers = [_GatedConv(layer, dtype) for layer in encoder.main]
        layers += [_GatedConv(layer, dtype, fold_inputs=index == 0) for index, layer in enumerate(decoder_layers)]
        self._layers = [_StreamingLayer(layer, width, self.bins, device) for layer in layers]
        self._last = _GatedConv(last, torch.float32)
        self._everywhere = torch.ones(1, 1, 1, device=device)
        self._messages = message_table(encoder, self.bins).to(dtype)  # (symbols, bins)
        self._carriers = torch.zeros(width, self.encoder_lag, self.bins, dtype=dtype, device=device)
        self._ages, self._dtype = torch.arange(self.lag + 1, device=device), dtype

    @property
    def states(self) -> tuple[Tensor, ...]:
        """All of them, rows first. A row whose clip begins must be zero."""
        return (self._carriers, *(layer.past for layer in self._layers))

    def step(self, carrier: Tensor, symbols: Tensor, rows: Rows) -> Tensor:
        """Takes the next frame of each of the first rows. Returns the message of the frame `lag` before it.

        carrier: (rows, bins) magnitudes; those of frames past the end do not matter.
        symbols: (rows, encoder_lag + 1) on the air at frame - encoder_lag up to frame.
        Returns (rows, band), positive, with an rms over all bins of one over the signal-to-distortion ratio.
        """
        carriers, insides = self._carriers[: len(carrier)], self._insides(rows.frame, rows.num_frames)
        carrier = carrier.to(self._dtype) * insides[0][:, 0]
        x = carrier[:, None]
        for index, layer in enumerate(self._layers):
            if index == self.encoder_lag:
                x = torch.cat((x, carriers[:, :1], self._messages[symbols[:, :1]] * insides[index]), dim=1)
            x = layer.step(x, insides[index + 1], rows)
        rows.keep(torch.cat((carriers[:, 1:], carrier[:, None]), dim=1), carriers)
        return self._message(x)

    def without_future(self, symbols: Tensor, frame: Tensor, numbers: Tensor, nearer: Tensor) -> Tensor:
        """The message of a frame behind the one of the last step, as if `frame` were the last of each clip.

        symbols, frame: as in the last step. numbers: of the rows that are asked for, (N,), which took part in it.
        nearer: (N,) how many frames behind, 1 to `lag`; `lag` is `frame` itself. Returns (N, band). Changes no state.
        """
        symbols, frame = symbols[numbers], frame[numbers]
        pasts = [layer.past[numbers] for layer in self._layers]
        carriers, outputs = self._carriers[numbers], []
        for ahead in range(1, self.lag + 1):  # frame + ahead passes through; layers before the first see nothing new
            first, insides = ahead - 1, self._insides(frame + ahead, frame + 1)
            x = pasts[first].new_zeros(len(numbers), self._layers[first].num_inputs, self.bins)
            for index in range(first, self.lag):
                if index == self.encoder_lag != first:
                    message = self._messages[symbols[:, ahead : ahead + 1]] * insides[index]
                    x = torch.cat((x, carriers[:, first:ahead], message), dim=1)
                pasts[index], x = self._layers[index].peek(pasts[index], x, insides[index + 1])
            outputs.append(x)
        return self._message(torch.stack(outputs, dim=1)[torch.arange(len(numbers), device=frame.device), nearer - 1])

    def _insides(self, frame: Tensor, num_frames: Tensor) -> tuple[Tensor, ...]:
        """By frames ago, 0 to `lag`: 1 where that frame is one of the clip's, else 0; (rows, 1, 1) each."""
        frames = frame - self._ages[:, None]  # (lag + 1, rows)
        inside = ((frames >= 0) & (frames < num_frames)).to(self._dtype)
        return inside[:, :, None, None].unbind(0)

    def _message(self, x: Tensor) -> Tensor:
        message = self._last(x.float(), self._everywhere)[:, 0, : self._band].abs()
        rms = (message.square().sum(dim=1, keepdim=True) / self._num_bins).sqrt()
        return message * (self._amplitude / rms.clamp_min(torch.finfo(rms.dtype).tiny))


class _GatedConv:
    """One layer of the package: convolution times gate, then batch normalisation with fixed statistics."""

    def __init__(self, layer: Any, dtype: torch.dtype, *, fold_inputs: bool = False) -> None:
        """fold_inputs: see with_folded_inputs."""
        weight = torch.cat((layer.conv.weight, layer.gate.weight))  # (outputs, inputs, bins, frames)
        if fold_inputs:
            weight = with_folded_inputs(weight)
        self.num_inputs = weight.shape[1]
        weight = weight.permute(0, 3, 1, 2).flatten(1, 2).contiguous()  # (outputs, frames * inputs, bins)
        scale, shift = scale_and_shift(layer.bn)
        self._shift = shift[:, None].to(dtype)
        scales = torch.cat((scale, torch.ones_like(scale)))  # of values, not of gates
        self.dtype, self._weight = dtype, (weight * scales[:, None, None]).to(dtype)
        self._bias = (torch.cat((layer.conv.bias, layer.gate.bias)) * scales).to(dtype)

    def __call__(self, x: Tensor, inside: Tensor) -> Tensor:
        """(rows, frames * inputs, bins) to (rows, outputs, bins), all in the convolution's type.

        inside: (rows, 1, 1), by which outputs are multiplied.
        """
        y = F.conv1d(x, self._weight, self._bias, padding=self._weight.shape[2] // 2)
        return torch.addcmul(self._shift * inside, F.glu(y, dim=1), inside)


class _StreamingLayer:
    """A layer and the two frames before the newest, of every row."""

    def __init__(self, conv: _GatedConv, width: int, bins: int, device: torch.device) -> None:
        self._conv = conv
        self.num_inputs = conv.num_inputs
        self.past = torch.zeros(width, 2 * conv.num_inputs, bins, dtype=conv.dtype, device=device)

    def step(self, x: Tensor, inside: Tensor, rows: Rows) -> Tensor:
        """Takes a frame (rows, inputs, bins). Returns the output for the frame before it, (rows, outputs, bins).

        inside: whether that one is in the clip, (rows, 1, 1).
        """
        past = self.past[: len(x)]
        newer, y = self.peek(past, x, inside)
        rows.keep(newer, past)
        return y

    def peek(self, past: Tensor, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The past after taking a frame, and the output for the frame before it. Changes nothing."""
        frames = torch.cat((past, x), dim=1)
        return frames[:, x.shape[1] :], self._conv(frames, inside)


def message_table(encoder: Any, bins: int) -> Tensor:
    weight, bias = encoder.linear.weight, encoder.linear.bias  # (band, symbols), (band,)
    table = (weight + bias[:, None]).T
    return F.pad(table, (0, max(0, bins - table.shape[1])))[:, :bins]
