"""Measures the stages of a frame step, and prefill passes. On CUDA by the device's clock."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

Stage = TypeVar("Stage")


class StageTimer(Generic[Stage]):
    """Seconds per stage, which may be any hashable value. On CUDA they are counted once the device has finished it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._is_on = True
        self._seconds: dict[Stage, float] = defaultdict(float)
        self._pending: deque[tuple[Stage, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Measures nothing inside."""
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        if not self._is_on:
            yield
        elif self._cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._pending.append((stage, start, end))
        else:
            begin = time.perf_counter()
            yield
            self._seconds[stage] += time.perf_counter() - begin

    def take(self) -> dict[Stage, float]:
        """Seconds per stage since the last call. Does not block: what the device still runs is left for later calls."""
        while self._pending and self._pending[0][2].query():
            stage, start, end = self._pending.popleft()
            self._seconds[stage] += start.elapsed_time(end) / 1000
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken
