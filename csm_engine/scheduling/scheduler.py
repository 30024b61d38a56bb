"""The scheduler: which sequence gets a slot, and what the engine runs next.

A policy without torch or a model; callers pass the time in. Sequences are admitted first come, first served. Prompts
are prefilled one after the other, in chunks. If a running sequence is urgent (pacing.py), a frame step follows each
chunk, so an urgent sequence waits for at most one chunk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from csm_bundle.errors import EngineBusyError
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.pacing import Pacing, is_urgent
from csm_engine.scheduling.sequence import Sequence, SequenceStatus


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
    """Holds the waiting, prefilling and running sequences. It takes slots from a SlotPool."""

    def __init__(
        self,
        pool: SlotPool,
        *,
        max_waiting: int,
        prefill_chunk: int,
        pacing: Pacing,
        budget: RealTimeBudget | None = None,
    ) -> None:
        """pacing: chooses the next step's sequences; budget: admits by step time, None by free slots alone."""
        self._pool = pool
        self._pacing = pacing
        self.budget = budget or RealTimeBudget()
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.prefilling: Sequence | None = None
        self.running: list[Sequence] = []
        self._chunk_was_last = False

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.num_admitted)

    @property
    def num_admitted(self) -> int:
        """Sequences that hold a slot."""
        return len(self.running) + (self.prefilling is not None)

    def add(self, sequence: Sequence) -> None:
        """Queues the sequence.

        Raises: EngineBusyError if the queue is full and no waiting sequence can be admitted.
        """
        room = self._pool.num_free if self._can_admit() else 0
        if len(self.waiting) >= self._max_waiting + room:
            raise EngineBusyError(
                f"{self.num_admitted} sequences run and {len(self.waiting)} wait; at most {self._max_waiting} may wait"
            )
        self.waiting.append(sequence)

    def admit(self) -> tuple[Sequence, Lease] | None:
        """Gives the next waiting sequence a slot; None when none can be admitted.

        One sequence is prefilled at a time. The next prompt may begin like the one in prefill, and then reuses its
        keys and values.
        """
        if self.prefilling is not None or not self.waiting or not self._can_admit():
            return None
        sequence = self.prefilling = self.waiting.popleft()
        lease = self._pool.acquire(sequence.prompt.rows())
        sequence.slot = lease.slot
        sequence.prefilled = sequence.reused = lease.reused
        sequence.restored = 0 if lease.restore is None else lease.reused
        sequence.status = SequenceStatus.PREFILLING
        return sequence, lease

    def _can_admit(self) -> bool:
        return self._pool.num_free > 0 and self.budget.allows(self.num_admitted + 1)

    def next_work(self, now: float) -> Work | None:
        """The next unit of work: a prefill chunk or a frame batch, alternating when both are due; None without work.

        now: seconds, by the clock of the sequences' `first_frame_at`.
        """
        prefill_first = self.prefilling is not None and not self._frame_step_is_due(now)
        batch = [] if prefill_first else self._pacing.choose(self.running, now)
        self._chunk_was_last = not batch
        if batch:
            for sequence in batch:
                sequence.launched += 1
            return FrameBatch(batch)
        if (prompt_of := self.prefilling) is not None:
            return PrefillChunk(prompt_of, prompt_of.prefilled, min(self._prefill_chunk, prompt_of.rows_to_prefill))
        return None

    def _frame_step_is_due(self, now: float) -> bool:
        """Whether a frame step precedes the next chunk: a sequence is urgent, and the last work was no frame step."""
        return self._chunk_was_last and any(is_urgent(item, now) for item in self.running)

    def next_wakeup(self, now: float) -> float | None:
        """Seconds until there is work; 0 when there is work now, None when no sequence needs any."""
        if self.prefilling is not None or (self.waiting and self._can_admit()):
            return 0.0
        return self._pacing.next_wakeup(self.running, now)

    def prefilled(self, chunk: PrefillChunk) -> bool:
        """Records that the chunk is in the cache. True when its sequence is ready to run."""
        sequence = chunk.sequence
        sequence.prefilled += chunk.length
        if sequence.status is not SequenceStatus.PREFILLING or sequence.rows_to_prefill > 0:
            return False
        assert sequence.slot is not None
        self._pool.filled(sequence.slot, sequence.cached_rows())
        self.prefilling = None
        sequence.status = SequenceStatus.RUNNING
        self.running.append(sequence)
        return True

    def remove(self, sequence: Sequence) -> None:
        """Removes the sequence from every queue and frees its slot. A second call has no effect."""
        if sequence is self.prefilling:
            self.prefilling = None
        for group in (self.waiting, self.running):
            if sequence in group:
                group.remove(sequence)
        if sequence.slot is not None:
            self._pool.release(sequence.slot, sequence.cached_rows())
            sequence.slot = None
