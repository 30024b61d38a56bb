"""Frame steps in flight: launched on the device, not yet read by the host.

On CUDA a launch returns at once. Each step in flight has its own pinned memory for slots and frames, so neither copy
waits for the device. That memory is reused only after its step was read. On a CPU a launch computes the whole step,
and the memory is not pinned.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import Codes


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was read.

    rows: (B, K + 1) int16, K codes and an Outcome; seconds: the step's duration, measured by the host.
    """

    sequences: list[Sequence]
    rows: Codes
    seconds: float

    def __iter__(self) -> Iterator[tuple[Sequence, Codes]]:
        return zip(self.sequences, self.rows, strict=True)


class InFlightSteps:
    """A queue of launched steps: first launched, first read."""

    def __init__(
        self, step: Callable[[Tensor], Tensor], *, num_rows: int, num_codebooks: int, depth: int, device: torch.device
    ) -> None:
        """num_rows: largest batch; depth: steps that may be unread when another one is launched."""
        self._step = step
        self._idle = deque(_Entry(num_rows, num_codebooks + 1, device) for _ in range(depth + 1))
        self._launched: deque[tuple[_Entry, list[Sequence], float]] = deque()
        self._last_read_at = 0.0

    def __len__(self) -> int:
        """Number of steps launched and not yet read."""
        return len(self._launched)

    def launch(self, sequences: list[Sequence]) -> None:
        """Launches a step that makes one frame of each sequence."""
        entry = self._idle.popleft()
        self._launched.append((entry, sequences, time.monotonic()))
        entry.launch(self._step, [sequence.slot for sequence in sequences])

    def read(self) -> Done:
        """Reads the oldest step. Blocks until the device has finished it."""
        entry, sequences, launched_at = self._launched.popleft()
        rows = entry.read(len(sequences))
        self._idle.append(entry)
        began, self._last_read_at = max(launched_at, self._last_read_at), time.monotonic()
        return Done(sequences, rows, self._last_read_at - began)


class _Entry:
    """Host memory of one step in flight."""

    def __init__(self, num_rows: int, width: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        self._device = device
        self._slots = torch.empty(num_rows, dtype=torch.int64, pin_memory=cuda)
        self._rows = torch.empty(num_rows, width, dtype=torch.int16, pin_memory=cuda)
        self._done = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]

    def launch(self, step: Callable[[Tensor], Tensor], slots: list[int | None]) -> None:
        self._slots[: len(slots)] = torch.tensor(slots)
        rows = step(self._slots[: len(slots)].to(self._device, non_blocking=True))
        self._rows[: len(slots)].copy_(rows, non_blocking=True)
        if self._done is not None:
            self._done.record()

    def read(self, count: int) -> Codes:
        if self._done is not None:
            self._done.synchronize()
        return self._rows[:count].numpy().copy()
