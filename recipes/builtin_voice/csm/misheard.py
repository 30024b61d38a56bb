"""Adds errors to exact codes, like those that the encoder makes on a recording.

The encoder misses some of a recording's spectrum, and sometimes its pitch. With imitated errors no recorded corpus is
needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.builtin_voice.codec.quantizer import COARSE, COARSE_OF_REST, PITCH_DIMS, Quantizer, nearest
from recipes.builtin_voice.vocoder import PULSES

SPECTRUM = 0.5  # error relative to the spectrum's standard deviation; its square is the unexplained variance
PITCHES = 0.15  # share of the frames whose pitch is off by one


class EncoderErrors:
    """Turns exact codes into codes with random errors of the encoder."""

    def __init__(self, quantizer: Quantizer, device: torch.device) -> None:
        self._first, self._rest = quantizer.first.to(device), quantizer.rest.to(device)
        first_pitch = self._first[:, : len(PULSES)]
        self._pulses = first_pitch.argmax(dim=1)
        self._deviation = self._rest[0].std(dim=0) * SPECTRUM

    def __call__(self, codes: Tensor) -> Tensor:
        """(N, K) -> (N, K)"""
        spectral = self._rest[0][codes[:, 1]].clone()
        for index in range(1, len(self._rest)):
            spectral += self._rest[index][codes[:, 1 + index]]
        spectral += self._deviation * torch.randn_like(spectral)
        steps = torch.randint(-1, 2, (len(codes),), device=codes.device)
        steps *= torch.rand(len(codes), device=codes.device) < PITCHES * 1.5
        semantic = self._first[codes[:, 0]].clone()
        pulses = (self._pulses[codes[:, 0]] + steps).clamp(0, len(PULSES) - 1)
        semantic[:, : len(PULSES)] = torch.nn.functional.one_hot(pulses, len(PULSES)).to(semantic.dtype)
        semantic[:, PITCH_DIMS : PITCH_DIMS + COARSE] = spectral[:, :COARSE] * COARSE_OF_REST
        found = [nearest(semantic, self._first)]
        for codebook in self._rest:
            found.append(nearest(spectral, codebook))
            spectral = spectral - codebook[found[-1]]
        return torch.stack(found, dim=1)
