"""Frame steps in flight: launched on the device, not yet read by the host.

On CUDA a launch returns at once. Each step in flight has its own pinned buffers for slots and frames, so neither copy
blocks the host. They are reused only after their step was read. On a CPU a launch computes the whole step.
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
class StepResult:
    """What one step computed.

    rows: (B, K + 1) int16, K codes and an Outcome; seconds: the step's duration. On CUDA the device measures it, so
    prefill passes queued before the step are not in it.
    """

    sequences: list[Sequence]
    rows: Codes
    seconds: float

    def __iter__(self) -> Iterator[tuple[Sequence, Codes, int]]:
        """Each sequence, its codes and its Outcome."""
        return zip(self.sequences, self.rows[:, :-1], self.rows[:, -1].tolist(), strict=True)


class InFlightSteps:
    """A queue of launched steps: first launched, first read."""

    def __init__(
        self, step: Callable[[Tensor], Tensor], *, num_rows: int, num_codebooks: int, depth: int, device: torch.device
    ) -> None:
        """num_rows: largest batch; depth: most steps in flight when another one is launched."""
        self._step = step
        self._idle = deque(_StepBuffers(num_rows, num_codebooks + 1, device) for _ in range(depth + 1))
        self._launched: deque[tuple[_StepBuffers, list[Sequence]]] = deque()

    def __len__(self) -> int:
        """Number of steps launched and not yet read."""
        return len(self._launched)

    def launch(self, sequences: list[Sequence]) -> None:
        """Launches a step that makes one frame of each sequence."""
        buffers = self._idle.popleft()
        self._launched.append((buffers, sequences))
        buffers.launch(self._step, [sequence.slot for sequence in sequences])

    def read(self) -> StepResult:
        """Reads the oldest step. Blocks until the device has finished it."""
        buffers, sequences = self._launched.popleft()
        rows, seconds = buffers.read(len(sequences))
        self._idle.append(buffers)
        return StepResult(sequences, rows, seconds)


class _StepBuffers:
    """Host memory of one step in flight. width: codebooks and the Outcome."""

    def __init__(self, num_rows: int, width: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        self._device = device
        self._slots = torch.empty(num_rows, dtype=torch.int64, pin_memory=cuda)
        self._rows = torch.empty(num_rows, width, dtype=torch.int16, pin_memory=cuda)
        self._seconds = 0.0
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2 if cuda else 0)]  # type: ignore[no-untyped-call]

    def launch(self, step: Callable[[Tensor], Tensor], slots: list[int | None]) -> None:
        began_at = time.monotonic()
        if self._events:
            self._events[0].record()
        self._slots[: len(slots)] = torch.tensor(slots)
        rows = step(self._slots[: len(slots)].to(self._device, non_blocking=True))
        self._rows[: len(slots)].copy_(rows, non_blocking=True)
        if self._events:
            self._events[1].record()
        self._seconds = time.monotonic() - began_at

    def read(self, count: int) -> tuple[Codes, float]:
        if self._events:
            began, done = self._events
            done.synchronize()
            self._seconds = began.elapsed_time(done) / 1000
        return self._rows[:count].numpy().copy(), self._seconds
