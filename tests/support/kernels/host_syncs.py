"""Refuses host synchronizations, for checks that launches wait for nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def host_syncs_refused(on_gpu: bool) -> Iterator[None]:
    """A context in which every host synchronization raises. on_gpu: without a GPU nothing is refused."""
    with warnings.catch_warnings():  # the mode is a prototype, and torch says so whenever it is set
        warnings.filterwarnings("ignore", message=".*ynchronization debug mode is a prototype")
        if not on_gpu:
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
