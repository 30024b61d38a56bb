"""A random rotary table for kernels that are compared with their twins."""

from __future__ import annotations

import torch
from torch import Tensor


def random_rope(positions: int, head_dim: int) -> Tensor:
    """Cosine and sine, (positions, E / 2, 2). Each pair of a head has a random speed."""
    angles = torch.arange(positions).outer(torch.rand(head_dim // 2, generator=torch.Generator().manual_seed(9)))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)
