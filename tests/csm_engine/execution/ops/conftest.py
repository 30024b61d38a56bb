"""Kernels in Triton's interpreter take half of its time or less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="module", autouse=True)
def patched_interpreter() -> Iterator[None]:
    """For every test of this folder; `make test-gpu` compiles its kernels and takes no test from here."""
    if find_spec("triton"):
        from tests.support.kernels.interpreter import patched_once  # a machine without triton skips its tests

        context = patched_once()
    else:
        context = nullcontext()
    with context:
        yield
