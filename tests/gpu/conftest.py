"""Tests that need a CUDA device: `make test-gpu`."""

from __future__ import annotations

import os
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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Prints each failure at once: whoever ends the tests before their last one loses none. Needs -s."""
    if report.failed and report.nodeid.startswith("tests/gpu/"):
        print(f"\nFAILED {report.nodeid} in {report.when}\n{report.longreprtext}", flush=True)


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """In place of the fixture of the same name: here nothing runs beside the tests, whose twins are on the CPU."""
    torch.set_num_threads(min(8, os.cpu_count() or 1))


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
