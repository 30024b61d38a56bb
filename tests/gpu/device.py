"""Where the tests of this folder run: on a CUDA device, or, in a lease's rehearsal, on a CPU (CSM_TEST_DEVICE=cpu).

There kernels run in Triton's interpreter and nothing is captured, each test runs for its first case alone, and what
only a device has (its calls, its memory, its waits) is not asserted. So it shows that a test's own code runs, and no
more.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

DEVICE = torch.device(os.environ.get("CSM_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"
_REHEARSED = 2


def put(values: Tensor) -> Tensor:
    """A copy on the device."""
    return values.to(DEVICE, copy=True)


def times(number: int) -> range:
    """For what is repeated because a race does not show every time; in the rehearsal, twice."""
    return range(number if ON_GPU else min(number, _REHEARSED))
