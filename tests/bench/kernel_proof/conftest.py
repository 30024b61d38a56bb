"""Programs that compile kernels run in a process of their own: those of this one are interpreted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def compiling() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with these arguments; 110 seconds at most."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        pytest.importorskip("triton")
        environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110
        )

    return run
