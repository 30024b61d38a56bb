"""Tests that need a CUDA device: `make test-gpu`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.gpu.device import ON_GPU
from tests.support.kernels.host_syncs import host_syncs_refused


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a rehearsal only the first case of each test runs."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.gpu)
    if not ON_GPU:
        first = {(item.path, item.name.partition("[")[0]): item for item in reversed(ours)}.values()
        left_out = [item for item in ours if item not in first]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Prints each failure at once, so that none is lost when the run is ended early. Needs -s."""
    if report.failed and report.nodeid.startswith("tests/gpu/"):
        print(f"\nFAILED {report.nodeid} in {report.when}\n{report.longreprtext}", flush=True)


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Replaces the fixture of the same name: beside a device the CPU's cores are free for the twins. A rehearsal has
    one thread: if several share an operation's values, a row's last bit may depend on the row's place.
    """
    torch.set_num_threads(min(8, os.cpu_count() or 1) if ON_GPU else 1)


@pytest.fixture
def refuse_host_syncs() -> Callable[[], AbstractContextManager[None]]:
    """A context in which every host synchronization raises."""
    return partial(host_syncs_refused, ON_GPU)
