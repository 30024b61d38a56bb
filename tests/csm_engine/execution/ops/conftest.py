"""Kernels in Triton's interpreter take half of its time or less."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="module", autouse=True)
def patched_interpreter() -> Iterator[None]:
    """For every test of this folder; `make test-gpu` compiles its kernels and takes no test from here."""
    if not find_spec("triton"):  # a machine without it skips the tests that need it
        yield
        return
    from tests.support.kernels.interpreter import patched_once

    with patched_once():
        yield
