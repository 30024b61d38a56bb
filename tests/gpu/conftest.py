"""Tests that need a CUDA device: `make test-gpu`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@contextmanager
def _host_syncs_refused() -> Iterator[None]:
    with warnings.catch_warnings():  # the mode is a prototype, and torch says so whenever it is set
        warnings.filterwarnings("ignore", message=".*ynchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def host_syncs_refused() -> Callable[[], AbstractContextManager[None]]:
    """A context in which every host sync raises; the mode ends with it, however it ends."""
    return _host_syncs_refused
