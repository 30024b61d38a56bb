"""Random tensors for kernels, and how close a kernel must be to its plain-torch twin."""

from __future__ import annotations

import torch
from torch import Tensor


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(ours: Tensor, expected: Tensor, tolerance: float = 2e-2) -> None:
    """The norm of the difference of all values is within `tolerance` of the twin's norm."""
    ours, expected = ours.float().cpu(), expected.float()
    assert ours.isfinite().all()
    assert (ours - expected).norm() <= tolerance * expected.norm()


def assert_rows_close(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    """The same for each row along the last dimension."""
    ours, expected = ours.float().cpu(), expected.float()
    assert ours.isfinite().all()
    error = (ours - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-6)
    assert error.max() <= tolerance, f"row {int(error.flatten().argmax())} is off by {error.max():.2%}"
