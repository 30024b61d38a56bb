"""Pacing: which running sequences make a frame in the next step. The least playout lead goes first.

A policy without torch; callers pass the time in. A sequence's playout lead is the sound, in seconds, that it has made
and that has not been played yet. It assumes that playback starts with the first frame and never pauses. One that
continues audio, as a later sentence of a text, has what is left of that too. A sequence with little lead is urgent, and
the first one of a call has none before its first frame, for its caller waits for the first sound. Every urgent sequence
is in the next step. Others join, least lead first, while the step has rows that cost almost nothing.

While no sequence is urgent, all of them may take part. `max_playout_lead_s` limits how far live sequences run ahead:
frames that a caller interrupts before they are played are wasted.
"""

from __future__ import annotations

from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.scheduling.buckets import bucket_of, buckets_up_to
from csm_engine.scheduling.sequence import Sequence

URGENT_PLAYOUT_LEAD_S = 0.24  # seconds, three frames: what the codec, the network and the player buffer
_SHARE_TO_WAKE = 0.5  # of max_playout_lead_s: a paused sequence whose lead falls to this share gets a step


class Pacing:
    """Chooses the rows of the next frame step from the running sequences."""

    def __init__(self, *, max_rows: int, saturation_batch: int, max_playout_lead_s: float) -> None:
        """max_rows: most sequences that run; saturation_batch: a step of so many rows costs little more than one row.

        max_playout_lead_s: largest playout lead of a live sequence, in seconds; 0 is no limit. While every running
        sequence has at least half of it, all of them pause, so that the next steps are as full as possible.
        """
        self._buckets = buckets_up_to(max_rows)
        self._saturation_batch = saturation_batch
        self._max_playout_lead_s = max_playout_lead_s
        self._enough = max_playout_lead_s * _SHARE_TO_WAKE

    def choose(self, running: list[Sequence], now: float) -> list[Sequence]:
        """The sequences of the next step, in the order of `running`; none while all may pause. now: seconds."""
        if len(running) <= self._saturation_batch and not self._max_playout_lead_s:
            return list(running)
        if self.next_wakeup(running, now) != 0.0:
            return []
        leads_s = {id(item): playout_lead_s(item, now) for item in running}
        candidates = [
            item for item in running if not (self._is_paced(item) and leads_s[id(item)] >= self._max_playout_lead_s)
        ]
        urgent = sum(is_urgent(item, now) for item in candidates)
        room = bucket_of(max(urgent, self._saturation_batch), self._buckets)
        if not urgent or len(candidates) <= room:
            return candidates
        candidates.sort(key=lambda item: leads_s[id(item)])  # urgent ones first: there is room for all of them
        chosen = {id(item) for item in candidates[:room]}
        return [item for item in running if id(item) in chosen]

    def next_wakeup(self, running: list[Sequence], now: float) -> float | None:
        """Seconds until a sequence needs a frame; 0 is now, None when no sequence runs."""
        surplus = min(
            (playout_lead_s(item, now) - self._enough if self._is_paced(item) else 0.0 for item in running),
            default=None,
        )
        return None if surplus is None else max(0.0, surplus)

    def _is_paced(self, sequence: Sequence) -> bool:
        """Whether the sequence may be paused. A caller that needs parts longer than half the limit is never paused."""
        request = sequence.request
        part_s = request.listener_frames * FRAME_SECONDS / request.speed
        return self._max_playout_lead_s > 0 and request.live and part_s <= self._enough


def playout_lead_s(sequence: Sequence, now: float) -> float:
    """Seconds of sound made and not played yet, frames in flight included; negative when playback has run dry.

    A sequence that continues audio is played behind the rest of that, or from its first frame if nothing is left.
    """
    begins_at = now if sequence.first_frame_at is None else sequence.first_frame_at
    if sequence.request.has_listener:
        begins_at = max(begins_at, sequence.silent_at)
    return sequence.launched * FRAME_SECONDS / sequence.request.speed - (now - begins_at)


def is_urgent(sequence: Sequence, now: float) -> bool:
    """Whether the sequence must be in the next step: it has little playout lead, or its listener no sound yet."""
    return playout_lead_s(sequence, now) < URGENT_PLAYOUT_LEAD_S
