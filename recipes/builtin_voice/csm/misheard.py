"""Imitates the encoder's errors on a recording: exact codes to codes with errors.

The encoder misses some of a recording's spectrum and at times its pitch. Imitating that needs no recorded corpus.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.builtin_voice.codec.quantizer import COARSE, COARSE_OF_REST, PITCH_DIMS, Quantizer
from recipes.builtin_voice.vocoder import PULSES

SPECTRUM = 0.5  # of the spectrum, as a standard deviation: what the encoder leaves unexplained is about its square
PITCHES = 0.15  # share of the frames with a pitch that is off by one


class Misheard:
    """Exact codes to codes as the encoder might find them, at random."""

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
        found = [_nearest(semantic, self._first)]
        for codebook in self._rest:
            found.append(_nearest(spectral, codebook))
            spectral = spectral - codebook[found[-1]]
        return torch.stack(found, dim=1)


def _nearest(points: Tensor, codebook: Tensor) -> Tensor:
    return (codebook.square().sum(dim=1) / 2 - points @ codebook.T).argmin(dim=1)
