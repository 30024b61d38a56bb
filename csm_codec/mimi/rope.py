"""The angles by which Mimi's attention turns keys and queries, for both of our forms of its transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def rope_frequencies(attention: Any) -> Tensor:
    """Of each pair of a head, in radians for each position: (pairs,) float64. attention: a self-attention of moshi's.

    Computed in float32, as moshi.modules.rope does, and kept in float64. moshi also multiplies by the position in
    float32, which is coarse after hours of a stream.
    """
    pairs = attention.embed_dim // attention.num_heads // 2
    return torch.exp(torch.arange(pairs).float() * (-math.log(attention.rope.max_period) / pairs)).double()
