"""Fixtures that every test may use."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before anything imports triton: kernels run in its interpreter, on CPU tensors. `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Tests run beside each other on few cores; imports of torch stay where the tests need it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def imported_names() -> Callable[[Path], Iterator[str]]:
    """Absolute names of what a file imports, wherever in it; a name may be a module or something inside one."""

    def read(file: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    return read
