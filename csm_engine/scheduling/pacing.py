"""Pacing: which running sequences make a frame in the next step. The least playout lead goes first.

A sequence's playout lead is the audio, in seconds, that it has generated and that has not been played yet, if playback
started with the first frame and never paused. A sequence that continues audio, such as the next sentence of a text,
adds what is left of that audio. Before its first frame any other sequence has no lead: its caller waits for sound.

A sequence with little lead is urgent. Every urgent sequence is in the next step. Others join, least lead first, while
more rows cost almost nothing. While none is urgent, all may join. `max_playout_lead_s` limits how far live sequences
run ahead, for frames that a caller interrupts before they are played are wasted. No torch; callers pass the time in.
"""

from __future__ import annotations

from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.scheduling.buckets import bucket_of, buckets_up_to
from csm_engine.scheduling.sequence import Sequence

URGENT_PLAYOUT_LEAD_S = 0.24  # three frames: what the codec, the network and the player buffer
_RESUME_SHARE = 0.5  # of max_playout_lead_s; streams are paused until one of them has less lead than this


class Pacing:
    """Chooses the rows of the next frame step from the running sequences."""

    def __init__(self, *, max_rows: int, saturation_batch: int, max_playout_lead_s: float) -> None:
        """max_rows: most running sequences; saturation_batch: a step of that many rows costs little more than one row.

        max_playout_lead_s: largest playout lead of a live sequence, in seconds; 0 is no limit. While every running
        sequence has at least half of it, all of them pause, so that the next steps are as full as possible.
        """
        self._buckets = buckets_up_to(max_rows)
        self._saturation_batch = saturation_batch
        self._max_playout_lead_s = max_playout_lead_s
        self._resume_lead_s = max_playout_lead_s * _RESUME_SHARE

    def choose(self, running: list[Sequence], now: float) -> list[Sequence]:
        """The sequences of the next step, in the order of `running`; none while all are paused. now: seconds."""
        if len(running) <= self._saturation_batch and not self._max_playout_lead_s:
            return list(running)
        if self.next_wakeup(running, now) != 0.0:
            return []
        leads_s = {item: playout_lead_s(item, now) for item in running}
        candidates = [item for item in running if leads_s[item] < self._max_playout_lead_s or not self._is_paced(item)]
        num_urgent = sum(leads_s[item] < URGENT_PLAYOUT_LEAD_S for item in candidates)
        max_rows = bucket_of(max(num_urgent, self._saturation_batch), self._buckets)
        if not num_urgent or len(candidates) <= max_rows:
            return candidates
        chosen = set(sorted(candidates, key=leads_s.__getitem__)[:max_rows])  # all urgent ones are among them
        return [item for item in running if item in chosen]

    def next_wakeup(self, running: list[Sequence], now: float) -> float | None:
        """Seconds until a sequence needs a frame: 0 is now; None when no sequence runs."""
        surpluses_s = []
        for item in running:
            surplus_s = playout_lead_s(item, now) - self._resume_lead_s
            if surplus_s <= 0 or not self._is_paced(item):
                return 0.0
            surpluses_s.append(surplus_s)
        return min(surpluses_s, default=None)

    def _is_paced(self, sequence: Sequence) -> bool:
        """Whether the sequence may be paused. Never if one message of its caller is longer than the resume lead."""
        request = sequence.request
        message_s = request.listener_frames * FRAME_SECONDS / request.speed
        return self._max_playout_lead_s > 0 and request.live and message_s <= self._resume_lead_s


def playout_lead_s(sequence: Sequence, now: float) -> float:
    """Seconds of audio generated and not played yet, frames in flight included; negative when playback has run dry.

    A sequence that continues audio is played after the rest of that audio, or from its first frame if nothing is left.
    """
    playback_starts_at = now if sequence.first_frame_at is None else sequence.first_frame_at
    if sequence.request.has_listener:
        playback_starts_at = max(playback_starts_at, sequence.underrun_at)
    return sequence.steps_launched * FRAME_SECONDS / sequence.request.speed - (now - playback_starts_at)


def is_urgent(sequence: Sequence, now: float) -> bool:
    """Whether the sequence must be in the next step."""
    return playout_lead_s(sequence, now) < URGENT_PLAYOUT_LEAD_S
