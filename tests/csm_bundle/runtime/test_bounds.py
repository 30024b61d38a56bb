"""Kernels of a CPU check no bounds. Here their tests run with a check of every index, which numba has for that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OF_KERNELS = (
    "tests/csm_bundle/runtime/test_block_product.py",
    "tests/csm_bundle/runtime/test_panel_product.py",
    "tests/csm_engine/execution/test_cpu_frame.py",
    "tests/csm_engine/execution/test_same_bits.py",
    "tests/csm_engine/loop",
    "tests/csm_codec/mimi/cpu",
    "tests/csm_codec/watermark/cpu",
    "tests/csm_codec/watermark/stream/test_block_resample.py",
)
CHECKED = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | {
    "NUMBA_BOUNDSCHECK": "1"
}
ONES = """
from functools import partial
import numpy as np
from tests.support.kernels.vector_sums import dots, two_rows
ones = partial(np.ones, dtype=np.float32)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "two_rows(ones((2, 16)), ones((15, 8)), ones((2, 8)), 0)",
        "two_rows(ones((1, 16)), ones((16, 8)), ones((2, 8)), 0)",
        "two_rows(ones((2, 16)), ones((16, 8)), ones((1, 8)), 4)",
        "dots(ones((1, 16)), ones((7, 16)), ones((1, 8)))",
    ],
)
def test_the_check_notices_a_row_too_few(call: str) -> None:
    ran = subprocess.run([sys.executable, "-c", ONES + call], cwd=ROOT, env=CHECKED, capture_output=True, text=True)
    assert "IndexError: index is out of bounds" in ran.stderr, ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_kernel_leaves_its_arrays() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OF_KERNELS]
    ran = subprocess.run(command, cwd=ROOT, env=CHECKED, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout
