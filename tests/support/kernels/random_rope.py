"""A rotary table for kernels that are compared with their twins: any angles will do."""

from __future__ import annotations

import torch
from torch import Tensor


def random_rope(positions: int, head_dim: int) -> Tensor:
    """(positions, E / 2, 2): cosine and sine, each pair of a head turning at a speed of its own."""
    angles = torch.arange(positions).outer(torch.rand(head_dim // 2, generator=torch.Generator().manual_seed(9)))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)
