"""Where the tests of this folder run: on a CUDA device, or, in a lease's rehearsal, on a CPU (CSM_TEST_DEVICE=cpu).

There kernels run in Triton's interpreter and nothing is captured, each test runs for its first case alone, and what
only a device has (its calls, its memory, its waits) is not asserted. So it shows that a test's own code runs, and no
more.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

DEVICE = torch.device(os.environ.get("CSM_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
_REHEARSED = 2


def put(values: Tensor) -> Tensor:
    """Copies a tensor to the device."""
    return values.to(DEVICE, copy=True)


def row_by_row(patch: pytest.MonkeyPatch) -> None:
    """Lets the interpreter multiply each row by itself, as a tensor core does: with numpy's BLAS a row's last bit goes
    with its place among the others.
    """
    if ON_GPU:
        return

    def matmul(rows: Any, matrix: Any, dtype: Any = np.float32) -> Any:
        return np.stack([row.astype(dtype) @ matrix.astype(dtype) for row in rows])

    patch.setattr(np, "matmul", matmul)


def times(number: int) -> range:
    """Repetitions of what finds a race that does not show every time; few of them in the rehearsal."""
    return range(number if ON_GPU else min(number, _REHEARSED))
