"""The scheduler: which sequence gets a slot, and what the engine runs next.

A policy without torch or a model; callers pass the time in. Sequences are admitted first come, first served, but those
whose listener hears audio already go before the others, and among them the one that falls silent first. A stream that
sends its next sentence at once finds its place kept.

Prompts that wait together share a prefill pass of at most `prefill_chunk` rows. A longer prompt takes several passes.
If a running sequence is urgent (pacing.py), a frame step follows each pass: an urgent sequence waits for one pass at
most. A prompt joins a pass with its whole next chunk or not at all, so its chunks do not depend on the other prompts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from csm_bundle.errors import EngineBusyError
from csm_engine.kv.slot_pool import Lease, SlotPool
from csm_engine.scheduling.admission import RealTimeBudget
from csm_engine.scheduling.buckets import MOST_PROMPTS, in_tiles
from csm_engine.scheduling.kept_places import KeptPlaces
from csm_engine.scheduling.pacing import Pacing, is_urgent, playout_lead_s
from csm_engine.scheduling.prefill_budget import PrefillBudget
from csm_engine.scheduling.sequence import Sequence, SequenceStatus

LEAST_SHARED = 16  # rows; a prompt waits for a prefix that is being prefilled if it saves at least so many


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Rows start..start+length-1 of the sequence's prompt."""

    sequence: Sequence
    start: int
    length: int

    @property
    def is_last(self) -> bool:
        """Whether the prompt is prefilled after it: the last row of a prompt is the first frame step's input."""
        return self.start + self.length == len(self.sequence.prompt) - 1


@dataclass(frozen=True, slots=True, eq=False)
class PrefillBatch:
    """Chunks that are prefilled in one pass, each of another sequence."""

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
        budget: RealTimeBudget | None = None,
    ) -> None:
        """prefill_chunk: most prompt rows of a pass; pacing: chooses the next step's sequences; budget: admits by step
        time, None by free slots alone.
        """
        self._pool = pool
        self._pacing = pacing
        self.budget = budget or RealTimeBudget()
        self.prefill_budget = PrefillBudget()
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.prefilling: list[Sequence] = []
        self.running: list[Sequence] = []
        self._kept = KeptPlaces()
        self._pass_was_last = False

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.num_admitted)

    @property
    def num_admitted(self) -> int:
        """Sequences that hold a slot."""
        return len(self.running) + len(self.prefilling)

    def add(self, sequence: Sequence, *, has_place: bool = False) -> None:
        """Queues the sequence: by the time at which a listener falls silent, and those without one behind them, as they
        come. All streams of a lost engine have room.

        has_place: `check_room` has let it in, so it is not refused for those that have overtaken it since. Raises:
        EngineBusyError if the queue is full, those that can be admitted now not counted.
        """
        has_listener, ahead = sequence.request.has_listener, len(self.waiting)
        if not has_place:
            self.check_room(has_listener=has_listener)
        if has_listener:
            listeners = (item for item in self.waiting if item.request.has_listener)
            ahead = sum(item.silent_at <= sequence.silent_at for item in listeners)
        self.waiting.insert(ahead, sequence)

    def check_room(self, num_coming: int = 0, *, has_listener: bool) -> None:
        """Raises EngineBusyError if `add` would. Any thread may ask.

        num_coming: more of the same kind that will be added before it
        """
        # Read first: whoever is admitted meanwhile does not count twice. A kept place is one that soon can be had.
        room = self._room
        waiting, most = list(self.waiting), self._max_waiting  # in one go: the engine's thread may change it
        if has_listener:
            waiting, most = [item for item in waiting if item.request.has_listener], most + self._pool.num_slots
        num_ahead = len(waiting) + num_coming
        if num_ahead >= most + room:
            raise EngineBusyError(f"{self.num_admitted} sequences run and {num_ahead} wait; at most {most} may wait")

    def admit(self) -> tuple[Sequence, Lease] | None:
        """Gives the next waiting sequence a slot; None when none can be admitted, or when the next pass is full.

        A prompt that begins like one in prefill waits until it can copy those keys and values.
        """
        if not self._finds_room() or not self._pass_has_room():
            return None
        if self._waits_for_prefix(self.waiting[0]):
            return None
        sequence = self.waiting.popleft()
        if sequence.request.has_listener:
            self._kept.take_one()
        self.prefilling.append(sequence)
        lease = self._pool.acquire(sequence.prompt.rows())
        sequence.slot = lease.slot
        sequence.prefilled = sequence.reused = lease.reused
        sequence.restored = 0 if lease.restore is None else lease.reused
        sequence.status = SequenceStatus.PREFILLING
        return sequence, lease

    def _pass_has_room(self) -> bool:
        rows = sum(in_tiles(self._chunk_of(item).length) for item in self.prefilling)
        return len(self.prefilling) < MOST_PROMPTS and rows < in_tiles(self._prefill_chunk)

    def _waits_for_prefix(self, sequence: Sequence) -> bool:
        """Whether a prompt in prefill will leave a longer prefix than is at hand now, by LEAST_SHARED or more."""
        wanted = sequence.reusable
        coming = max(
            (wanted.rows_in_common(item.reusable, LEAST_SHARED - 1) for item in self.prefilling),
            default=0,
        )
        return coming >= LEAST_SHARED and coming - self._pool.match_length(wanted) >= LEAST_SHARED

    def _finds_room(self) -> bool:
        """Whether a sequence waits that can be admitted now."""
        if not self.waiting:
            return False
        num_kept = 0 if self.waiting[0].request.has_listener else len(self._kept)
        return self._room > num_kept

    @property
    def _room(self) -> float:
        """Number of sequences that can be admitted now, those with a kept place included."""
        return max(0, min(self._pool.num_free, self.budget.most_rows - self.num_admitted))

    def next_work(self, now: float) -> Work | None:
        """The next unit of work: a prefill pass or a frame batch, alternating when both are due; None without work.

        now: seconds, by the clock of the sequences' `first_frame_at`.
        """
        self._kept.give_up_old(now)
        prefill_first = bool(self.prefilling) and not self._frame_step_is_due(now)
        batch = [] if prefill_first else self._pacing.choose(self.running, now)
        self._pass_was_last = not batch
        if batch:
            for sequence in batch:
                sequence.launched += 1
            return FrameBatch(batch)
        return PrefillBatch(self._next_chunks(now)) if self.prefilling else None

    def _next_chunks(self, now: float) -> list[PrefillChunk]:
        """The first prompt's next chunk, and those of the next prompts while they fit and streams can wait."""
        leads_s = (playout_lead_s(item, now) for item in self.running if item.first_frame_at is not None)
        least_lead_s = min(leads_s, default=None)
        chunks: list[PrefillChunk] = []
        room, rows = in_tiles(self._prefill_chunk), 0
        for chunk in map(self._chunk_of, self.prefilling):
            room, rows = room - in_tiles(chunk.length), rows + chunk.length
            if chunks and (room < 0 or not self.prefill_budget.allows(rows, least_lead_s)):
                break
            chunks.append(chunk)
        return chunks

    def _chunk_of(self, sequence: Sequence) -> PrefillChunk:
        return PrefillChunk(sequence, sequence.prefilled, min(self._prefill_chunk, sequence.rows_to_prefill))

    def _frame_step_is_due(self, now: float) -> bool:
        """Whether a frame step precedes the next pass: a sequence is urgent, and the last work was no frame step."""
        return self._pass_was_last and any(is_urgent(item, now) for item in self.running)

    def next_wakeup(self, now: float) -> float | None:
        """Seconds until there is work; 0 when there is work now, None when no sequence needs any."""
        self._kept.give_up_old(now)
        if self.prefilling or self._finds_room():
            return 0.0
        wakeups = (self._pacing.next_wakeup(self.running, now), self._kept.next_end(now) if self.waiting else None)
        return min((each for each in wakeups if each is not None), default=None)

    def prefilled(self, batch: PrefillBatch) -> None:
        """Records that the chunks are in the cache. Sequences whose prompt is complete run from now on."""
        for chunk in batch.chunks:
            sequence = chunk.sequence
            assert sequence.slot is not None
            sequence.prefilled += chunk.length
            self._pool.filled(sequence.slot, sequence.cached_rows())
            if chunk.is_last:
                self.prefilling.remove(sequence)
                sequence.status = SequenceStatus.RUNNING
                self.running.append(sequence)

    def end(self, sequence: Sequence, now: float) -> None:
        """Removes a sequence that has said all. now: as for `next_work`"""
        self.remove(sequence)
        if sequence.request.is_followed:
            self._kept.keep_one(now)

    def remove(self, sequence: Sequence) -> None:
        """Removes the sequence from every queue and frees its slot. A second call has no effect."""
        for group in (self.waiting, self.prefilling, self.running):
            if sequence in group:
                group.remove(sequence)
        if sequence.slot is not None:
            self._pool.release(sequence.slot, sequence.cached_rows())
            sequence.slot = None
