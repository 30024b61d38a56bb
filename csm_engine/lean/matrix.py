"""A weight matrix of the fast step: in the model's type, or in eight bits with a scale for each output.

Eight bits are float8_e4m3fn (arXiv 2209.05433): weights alone, activations stay in the model's type. Who multiplies is
the business of ops.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Matrix:
    """N outputs, K inputs."""

    values: Tensor  # (N, K), of the model's type or FLOAT8
    scale: Tensor | None = None  # (N,) float32, what the rows are multiplied by; None is one
    fused: bool = False  # on CUDA, for few rows: by our own kernel, with what stands before and behind the product

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(N, K) of that type, scaled."""
        if self.scale is None:
            return self.values.to(dtype)
        return (self.values.float() * self.scale[:, None]).to(dtype)


def in_float8(weight: Tensor) -> Matrix:
    """weight: (N, K). The largest value of each row becomes the largest there is; others are rounded to nearest."""
    largest = weight.abs().amax(dim=1).float().clamp_min(torch.finfo(torch.float32).tiny)
    scale = largest / torch.finfo(FLOAT8).max
    return Matrix((weight.float() / scale[:, None]).to(FLOAT8), scale, fused=True)
