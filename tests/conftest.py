"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys

import pytest

# Before anything imports triton: kernels run in its interpreter, on CPU tensors. `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Tests run beside each other on few cores; imports of torch stay where the tests need it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
