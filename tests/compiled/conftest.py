"""Kernels as they are compiled for sm_90, run on a CPU (tests/support/kernels/ptx): `make test-compiled`.

Triton decides at its import whether a process interprets kernels, so these tests run in processes of their own, with
TRITON_INTERPRET=0. Twins run outside of `compiled_kernels`, so in plain torch.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compiled)
