"""The scheduler: which sequence gets a slot, and what the engine runs next.

Sequences that continue audio (`has_listener`) are admitted first, in the order in which their playback runs dry; the
others first come, first served. A slot is reserved for a stream whose next sentence is about to arrive. A slot has
room for a whole context window: there are no blocks, and an admitted sequence keeps its slot until it ends.

Prompts that wait together share a prefill pass of at most `prefill_chunk` rows. A longer prompt takes several passes.
While a running sequence is urgent (pacing.py), a frame step follows each pass, so it waits for one pass at most. A
prompt joins a pass with its whole next chunk or not at all, so its chunks do not depend on the other prompts.

A policy without torch or a model; callers pass the time in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sized
from dataclasses import dataclass

from csm_bundle.errors import EngineBusyError
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS, in_tiles
from csm_engine.scheduling.pacing import Pacing, is_urgent, playout_lead_s
from csm_engine.scheduling.prefill_budget import PrefillBudget
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.scheduling.slot_reservations import SlotReservations

MIN_SHARED_ROWS = 16  # a prompt waits for a prefix that is being prefilled if that saves it at least this many rows


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Rows start..start+length-1 of the sequence's prompt."""

    sequence: Sequence
    start: int
    length: int

    @property
    def is_last(self) -> bool:
        """Whether it completes the prefill. The prompt's last row is not prefilled: the first frame step runs it."""
        return self.start + self.length == len(self.sequence.prompt) - 1


@dataclass(frozen=True, slots=True, eq=False)
class PrefillBatch:
    """Chunks that are prefilled in one pass, one of each sequence."""

    chunks: list[PrefillChunk]

    @property
    def num_rows(self) -> int:
        return sum(chunk.length for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Sequences that make one frame together."""

    sequences: list[Sequence]


Work = PrefillBatch | FrameBatch


class Scheduler:
    """Holds the waiting, prefilling and running sequences. It takes slots from a SlotPool."""

    def __init__(
        self,
        pool: SlotPool,
        *,
        max_waiting: int,
        prefill_chunk: int,
        pacing: Pacing,
        frame_budget: RealTimeBudget | None = None,
    ) -> None:
        """prefill_chunk: most prompt rows of a pass; pacing: chooses the next step's sequences; frame_budget: limits
        admission by step time, None by free slots only.
        """
        self._pool = pool
        self._pacing = pacing
        self.frame_budget = frame_budget or RealTimeBudget()
        self.prefill_budget = PrefillBudget()
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.prefilling: list[Sequence] = []
        self.running: list[Sequence] = []
        self._reservations = SlotReservations()
        self._last_was_frame_step = True
        # Held while a sequence moves from one place to another, so that `check_room` counts it in one of them.
        self._moving = threading.Lock()

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.num_admitted)

    @property
    def num_admitted(self) -> int:
        """Sequences that hold a slot."""
        return len(self.running) + len(self.prefilling)

    def add(self, sequence: Sequence, on_queued: Callable[[], object] | None = None) -> None:
        """Queues the sequence: those with a listener first, ordered by `underrun_at`; the others as they come.

        on_queued: given when `check_room` has accepted it, so it is queued even if others came before it since. Called
        to end its place in `pending`.
        Raises: EngineBusyError as `check_room` does, without on_queued.
        """
        has_listener = sequence.request.has_listener
        if on_queued is None:
            self.check_room(has_listener=has_listener)
        index = len(self.waiting)
        if has_listener:
            listeners = (item for item in self.waiting if item.request.has_listener)
            index = sum(item.underrun_at <= sequence.underrun_at for item in listeners)
        with self._moving:
            if on_queued is not None:
                on_queued()
            self.waiting.insert(index, sequence)

    def check_room(self, pending: Sized = (), *, has_listener: bool) -> None:
        """Checks whether the queue has a place for one more sequence. Any thread may call it.

        At most `max_waiting` sequences may wait, beyond those that can be admitted at once. Of those with a listener,
        `num_slots` more may wait, and others are not counted, so that all streams of a lost replica fit.

        pending: sequences of the same kind that were accepted and are not queued yet.
        Raises: EngineBusyError.
        """
        with self._moving:
            num_admissible, waiting, num_pending = self._num_admissible, list(self.waiting), len(pending)
        max_waiting = self._max_waiting
        if has_listener:
            waiting = [item for item in waiting if item.request.has_listener]
            max_waiting += self._pool.num_slots
        num_ahead = len(waiting) + num_pending
        if num_ahead >= max_waiting + num_admissible:
            raise EngineBusyError(
                f"{self.num_admitted} sequences run and {num_ahead} wait; at most {max_waiting} may wait"
            )

    def admit(self) -> tuple[Sequence, Lease] | None:
        """Gives the next waiting sequence a slot; None when it cannot be admitted, or the next pass is full.

        A prompt that begins like one in prefill waits until it can copy those keys and values.
        """
        if not self._can_admit() or not self._pass_has_room() or self._must_wait_for_prefix(self.waiting[0]):
            return None
        with self._moving:
            sequence = self.waiting.popleft()
            self.prefilling.append(sequence)
            lease = self._pool.acquire(sequence.prompt.rows)
        if sequence.request.has_listener:
            self._reservations.claim()
        sequence.slot = lease.slot
        sequence.prefilled = sequence.reused = lease.reused
        sequence.restored = 0 if lease.restore is None else lease.reused
        sequence.status = SequenceStatus.PREFILLING
        return sequence, lease

    def _pass_has_room(self) -> bool:
        """Whether the next pass takes one more prompt. Each prompt fills whole tiles of it (buckets.py)."""
        rows = sum(in_tiles(self._next_chunk(item).length) for item in self.prefilling)
        return len(self.prefilling) < MAX_PREFILL_PROMPTS and rows < in_tiles(self._prefill_chunk)

    def _must_wait_for_prefix(self, sequence: Sequence) -> bool:
        """Whether a prompt in prefill will offer a prefix that is longer than what is cached, by MIN_SHARED_ROWS."""
        wanted = sequence.reusable
        in_prefill = max(
            (wanted.rows_in_common(item.reusable, MIN_SHARED_ROWS - 1) for item in self.prefilling),
            default=0,
        )
        return in_prefill >= MIN_SHARED_ROWS and in_prefill - self._pool.match_length(wanted) >= MIN_SHARED_ROWS

    def _can_admit(self) -> bool:
        """Whether there is a slot and step time for the next waiting sequence."""
        if not self.waiting:
            return False
        num_reserved = 0 if self.waiting[0].request.has_listener else len(self._reservations)
        return self._num_admissible > num_reserved

    @property
    def _num_admissible(self) -> float:
        """Number of sequences that can be admitted now, reserved slots included."""
        return max(0, min(self._pool.num_free, self.frame_budget.max_rows - self.num_admitted))

    def next_work(self, now: float) -> Work | None:
        """The next unit of work: a prefill pass or a frame batch, alternating while a sequence is urgent; or None.

        now: seconds, by the clock of the sequences' `first_frame_at`.
        """
        self._reservations.drop_expired(now)
        prefill_first = bool(self.prefilling) and not self._frame_step_is_due(now)
        chosen = [] if prefill_first else self._pacing.choose(self.running, now)
        self._last_was_frame_step = bool(chosen)
        if chosen:
            for sequence in chosen:
                sequence.steps_launched += 1
            return FrameBatch(chosen)
        return PrefillBatch(self._next_chunks(now)) if self.prefilling else None

    def _next_chunks(self, now: float) -> list[PrefillChunk]:
        """The first prompt's next chunk, and those of the next prompts while the pass and the playing streams allow."""
        leads_s = (playout_lead_s(item, now) for item in self.running if item.first_frame_at is not None)
        least_lead_s = min(leads_s, default=None)
        chunks: list[PrefillChunk] = []
        tiled_rows = num_rows = 0
        for chunk in map(self._next_chunk, self.prefilling):
            tiled_rows, num_rows = tiled_rows + in_tiles(chunk.length), num_rows + chunk.length
            is_full = tiled_rows > in_tiles(self._prefill_chunk)
            if chunks and (is_full or not self.prefill_budget.allows(num_rows, least_lead_s)):
                break
            chunks.append(chunk)
        return chunks

    def _next_chunk(self, sequence: Sequence) -> PrefillChunk:
        return PrefillChunk(sequence, sequence.prefilled, min(self._prefill_chunk, sequence.rows_to_prefill))

    def _frame_step_is_due(self, now: float) -> bool:
        """Whether a frame step comes before the next prefill pass: a sequence is urgent and has waited for one pass."""
        return not self._last_was_frame_step and any(is_urgent(item, now) for item in self.running)

    def next_wakeup(self, now: float) -> float | None:
        """Seconds until there is work: 0 is now; None waits for the next request."""
        self._reservations.drop_expired(now)
        if self.prefilling or self._can_admit():
            return 0.0
        next_frame = self._pacing.next_wakeup(self.running, now)
        next_slot = self._reservations.next_expiry(now) if self.waiting else None
        return min((wakeup for wakeup in (next_frame, next_slot) if wakeup is not None), default=None)

    def prefilled(self, batch: PrefillBatch) -> None:
        """Records that the chunks are in the KV cache. Sequences with a complete prompt run from now on."""
        for chunk in batch.chunks:
            sequence = chunk.sequence
            assert sequence.slot is not None
            sequence.prefilled += chunk.length
            self._pool.filled(sequence.slot, sequence.cached_rows())
            if chunk.is_last:
                with self._moving:
                    self.prefilling.remove(sequence)
                    self.running.append(sequence)
                sequence.status = SequenceStatus.RUNNING

    def end(self, sequence: Sequence, now: float) -> None:
        """Removes a sequence that has ended by itself. now: as for `next_work`."""
        self.remove(sequence)
        if sequence.request.is_followed:
            self._reservations.reserve(now)

    def remove(self, sequence: Sequence) -> None:
        """Removes the sequence from every queue and frees its slot. A second call has no effect."""
        for group in (self.waiting, self.prefilling, self.running):
            if sequence in group:
                group.remove(sequence)
        if sequence.slot is not None:
            self._pool.release(sequence.slot, sequence.cached_rows())
            sequence.slot = None
