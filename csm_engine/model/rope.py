"""The rotary table of a stack, which no checkpoint carries."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from csm_engine.model.shapes import TransformerConfig

_WINDOW = 8192  # positions that Llama 3 was trained on
_LOW, _HIGH = 1, 4  # turns in the window: slower pairs are scaled, faster ones are not


def rope_table(config: TransformerConfig, device: torch.device) -> Tensor:
    """(positions, E / 2, 2) float32: cosine and sine of each position and pair of a head's E values.

    Scaled as Llama 3.1's: github.com/meta-llama/llama-models models/llama3/model.py, `apply_scaling`.
    """
    pairs = torch.arange(0, config.head_dim, 2, device=device).float()
    plain = 1.0 / config.rope_base ** (pairs / config.head_dim)
    wavelength = 2 * math.pi / plain
    scaled = plain / config.rope_scale_factor
    share = (_WINDOW / wavelength - _LOW) / (_HIGH - _LOW)
    between = (1 - share) * plain / config.rope_scale_factor + share * plain
    theta = torch.where(wavelength > _WINDOW / _LOW, scaled, between)
    theta = torch.where(wavelength < _WINDOW / _HIGH, plain, theta)
    angles = torch.outer(torch.arange(config.max_seq_len, device=device).float(), theta)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)
