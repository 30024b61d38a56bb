"""The fast step's operations in plain torch: a row's bits do not go with its place among the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from csm_engine.execution.ops import torch_ops

ROWS, WIDTH = 25, 16384  # torch shares so many values between three threads, in parts that are no whole vectors


@pytest.fixture(autouse=True)
def three_threads() -> None:
    torch.set_num_threads(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", [torch_ops.silu_mul, lambda x: torch_ops.rms_norm(x, None, 1e-5)])
def test_a_rows_bits_do_not_go_with_its_place(operation: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = operation(rows)
    for places in range(1, ROWS):
        moved = operation(rows.roll(places, 0)).roll(-places, 0)
        assert torch.equal(moved, expected), f"moved by {places} rows"


def test_silu_of_large_values_is_that_of_torch() -> None:
    gate = torch.tensor([[-200.0, -89.0, -1.0, 0.0, 1.0, 200.0]])
    ours = torch_ops.silu_mul(torch.cat([gate, torch.full_like(gate, 3.0)], dim=1))
    torch.testing.assert_close(ours, 3 * torch.nn.functional.silu(gate))
