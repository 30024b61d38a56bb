"""Who gets a slot and what runs next. Policy only: no torch, no model, and the time is given.

First come, first served. A prompt is prefilled in chunks. After each chunk comes a frame step if anybody needs one
soon (pacing.py), so that none of those waits for more than one chunk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from csm_engine.admission import RealTimeBudget
from csm_engine.errors import EngineBusyError
from csm_engine.pacing import Pacing, is_pressing
from csm_engine.sequence import Sequence, SequenceStatus
from csm_engine.slot_pool import Lease, SlotPool


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Rows start..start+length-1 of the sequence's prompt."""

    sequence: Sequence
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Sequences that make one frame together."""

    sequences: list[Sequence]


Work = PrefillChunk | FrameBatch


class Scheduler:
    """Keeps the queue, and the slots by way of the pool."""

    def __init__(
        self,
        pool: SlotPool,
        *,
        max_waiting: int,
        prefill_chunk: int,
        pacing: Pacing,
        budget: RealTimeBudget | None = None,
    ) -> None:
        """pacing: who is in the next step; budget: who is admitted beside a free slot, everyone when None."""
        self._pool = pool
        self._pacing = pacing
        self.budget = budget or RealTimeBudget()
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.prefilling: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._chunk_was_last = False

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.prefilling or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queues the sequence.

        Raises: EngineBusyError if the queue is full and nobody can be admitted.
        """
        room = self._pool.num_free if self._can_admit() else 0
        if len(self.waiting) >= self._max_waiting + room:
            raise EngineBusyError(
                f"{len(self.running) + len(self.prefilling)} sequences run and {len(self.waiting)} wait;"
                f" at most {self._max_waiting} may wait"
            )
        self.waiting.append(sequence)

    def admit(self) -> list[tuple[Sequence, Lease]]:
        """Moves waiting sequences into free slots and returns them with what their slots already hold."""
        admitted = []
        while self.waiting and self._can_admit():
            sequence = self.waiting.popleft()
            lease = self._pool.acquire(sequence.prompt.rows())
            sequence.slot = lease.slot
            sequence.prefilled = sequence.reused = lease.reused
            sequence.status = SequenceStatus.PREFILLING
            self.prefilling.append(sequence)
            admitted.append((sequence, lease))
        return admitted

    def _can_admit(self) -> bool:
        return self._pool.num_free > 0 and self.budget.allows(len(self.running) + len(self.prefilling) + 1)

    def next_work(self, now: float) -> Work | None:
        """A prefill chunk or a frame step, in turn where both are due; None when there is nothing to do yet.

        now: seconds, of the clock that the sequences' `first_frame_at` is of.
        """
        batch = [] if self.prefilling and not self._frame_step_is_due(now) else self._pacing.choose(self.running, now)
        self._chunk_was_last = not batch
        if batch:
            for sequence in batch:
                sequence.launched += 1
            return FrameBatch(batch)
        if self.prefilling:
            sequence = self.prefilling[0]
            return PrefillChunk(sequence, sequence.prefilled, min(self._prefill_chunk, sequence.rows_to_prefill))
        return None

    def _frame_step_is_due(self, now: float) -> bool:
        """Whether somebody who runs cannot wait for one more chunk."""
        return self._chunk_was_last and any(is_pressing(item, now) for item in self.running)

    def rest(self, now: float) -> float | None:
        """Seconds until there is work, 0 when there is some; None without anybody to work for."""
        if self.prefilling or (self.waiting and self._can_admit()):
            return 0.0
        return self._pacing.rest(self.running, now)

    def prefilled(self, chunk: PrefillChunk) -> bool:
        """Takes note that the chunk is in the cache; true when its sequence is ready to run."""
        sequence = chunk.sequence
        sequence.prefilled += chunk.length
        if sequence.status is not SequenceStatus.PREFILLING or sequence.rows_to_prefill > 0:
            return False
        self.prefilling.remove(sequence)
        sequence.status = SequenceStatus.RUNNING
        self.running.append(sequence)
        return True

    def remove(self, sequence: Sequence) -> None:
        """Takes the sequence out, wherever it is, and frees its slot. Doing it twice does no harm."""
        for group in (self.waiting, self.prefilling, self.running):
            if sequence in group:
                group.remove(sequence)
        if sequence.slot is not None:
            self._pool.release(sequence.slot, sequence.cached_rows())
            sequence.slot = None
