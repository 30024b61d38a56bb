"""The embedder as a differentiable function of a batch of crops, with the formula of the streaming one.

A change of csm_codec/watermark/networks/embedding.py or csm_codec/watermark/embed/spectral_embedder.py must be made
here too. Batch statistics are those of the module's mode. Weights that are folded there are folded here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_codec.watermark.networks.silentcipher import FEATURES, REPEATS, SilentCipher


class TrainingEmbedder:
    """Marks crops with one symbol for each frame."""

    def __init__(self, silentcipher: SilentCipher) -> None:
        self._networks = silentcipher
        self._hparams = silentcipher.hparams
        self._window = torch.hann_window(self._hparams.n_fft)
        energy, hop = self._window.square(), self._hparams.hop
        self._envelope = energy[:hop] + energy[hop:]
        self.lag = len(silentcipher.carrier_encoder.main) + len(silentcipher.carrier_decoder.main) - 1
        self._bins = min(self._hparams.num_bins, self._hparams.band + self.lag)

    def mark(self, pcm: Tensor, symbols: Tensor, gain: Tensor, magnitude: Tensor, sdr_db: float) -> Tensor:
        """The mark alone, for the samples that two frames cover: all but the first and the last hop.

        pcm: (rows, (frames + 1) * hop); symbols, gain, magnitude: (rows, frames), the latter two as level.Level.
        Returns (rows, (frames - 1) * hop).
        """
        hop, band = self._hparams.hop, self._hparams.band
        spectrum = torch.fft.rfft(pcm.unfold(1, self._hparams.n_fft, hop) * self._window)  # (rows, frames, bins)
        absolute = spectrum.abs()
        carrier = (absolute[:, :, : self._bins] * gain[:, :, None]).transpose(1, 2)[:, None]
        message = self._message(carrier.contiguous(memory_format=torch.channels_last), symbols)
        rms = (message.square().sum(dim=1, keepdim=True) / self._hparams.num_bins).sqrt()
        strength = magnitude[:, None] * 10 ** (-sdr_db / 20)
        wanted = (message / rms.clamp_min(1e-12) * strength).transpose(1, 2)
        heard = absolute[:, :, :band]
        marked = -spectrum[:, :, :band] * (torch.minimum(wanted, heard) / heard.clamp_min(1e-12))
        samples = torch.fft.irfft(marked, n=self._hparams.n_fft) * self._window
        overlapped = (samples[:, :-1, hop:] + samples[:, 1:, :hop]) / self._envelope
        return overlapped.flatten(1)

    def _message(self, carrier: Tensor, symbols: Tensor) -> Tensor:
        """(rows, 1, bins, frames) and (rows, frames) to (rows, band, frames), positive."""
        encoder, decoder = self._networks.carrier_encoder, self._networks.carrier_decoder
        letters = F.one_hot(symbols, encoder.linear.in_features).to(carrier.dtype)
        message = encoder.linear(letters).transpose(1, 2)[:, None]
        message = F.pad(message, (0, 0, 0, carrier.shape[2] - message.shape[2]))
        first, *rest = decoder.main
        x = _folded(first, torch.cat((encoder.main(carrier), carrier, message), dim=1))
        for layer in rest:
            x = layer(x)
        return x[:, 0, : self._hparams.band].abs()


def _folded(layer: Any, x: Tensor) -> Tensor:
    """The decoder's first layer: carrier and message, of which it takes many copies, are one channel each in x."""
    weight = torch.cat((layer.conv.weight, layer.gate.weight))
    features, carrier, message = weight.split((FEATURES, REPEATS, REPEATS), dim=1)
    weight = torch.cat((features, carrier.sum(1, keepdim=True), message.sum(1, keepdim=True)), dim=1)
    bias = torch.cat((layer.conv.bias, layer.gate.bias))
    value, gate = F.conv2d(x, weight.contiguous(memory_format=torch.channels_last), bias, padding=1).chunk(2, dim=1)
    return layer.bn(value * torch.sigmoid(gate))
