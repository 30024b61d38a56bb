"""A timer of the engine's stages. On CUDA it reads the device's own clock."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

Stage = TypeVar("Stage")


class StageTimer(Generic[Stage]):
    """Sums seconds per stage: a name, or a prefill pass. On CUDA a stage counts once the device has finished it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._on = True
        self._seconds: dict[Stage, float] = defaultdict(float)
        self._pending: deque[tuple[Stage, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switches the timer off inside: events of a captured graph cannot be read."""
        self._on = False
        try:
            yield
        finally:
            self._on = True

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        if not self._on:
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
        """Seconds per stage since the last call. Does not wait for the device."""
        while self._pending and self._pending[0][2].query():
            stage, start, end = self._pending.popleft()
            self._seconds[stage] += start.elapsed_time(end) / 1000
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken
