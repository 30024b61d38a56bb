"""Who makes a frame in the next step: those first whose listeners would soon have nothing to hear.

Policy only: no torch, and the time is given. A sequence's lead is the sound that it has made and that has not been
played yet, if it is played from the first frame on without a break. In the order of a step's importance:

1. sequences that have made nothing yet: somebody waits for the first sound;
2. those with little lead;
3. opportunistic ones, least lead first, up to the rows that a step carries at no cost worth mentioning.

While nobody is in 1 or 2 there is time, and everybody is opportunistic. `max_playout_lead_s` keeps live sequences from
running further ahead: what was made for a listener who then interrupts is made in vain.
"""

from __future__ import annotations

from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.scheduling.buckets import bucket_of, buckets_up_to
from csm_engine.scheduling.sequence import Sequence

URGENT_PLAYOUT_LEAD_S = 0.24  # seconds: three frames, for what the codec, the network and the player hold back
_SHARE_TO_WAKE = 0.5  # of max_playout_lead_s


class Pacing:
    """Chooses from the running sequences."""

    def __init__(self, *, max_rows: int, saturation_batch: int, max_playout_lead_s: float) -> None:
        """max_rows: most sequences that run; saturation_batch: a step of so many costs little more than a step of one.

        max_playout_lead_s: that a live sequence may be ahead of its listener, 0 without a limit. Once all who run have
        half of it, all rest, so that steps stay as full as they can be.
        """
        self._buckets = buckets_up_to(max_rows)
        self._saturation_batch = saturation_batch
        self._max_playout_lead_s = max_playout_lead_s
        self._enough = max_playout_lead_s * _SHARE_TO_WAKE

    def choose(self, running: list[Sequence], now: float) -> list[Sequence]:
        """The next step's rows, in the order of `running`; nobody while all may rest. now: seconds."""
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
        candidates.sort(key=lambda item: (item.launched > 0, leads_s[id(item)]))
        chosen = {id(item) for item in candidates[:room]}
        return [item for item in running if id(item) in chosen]

    def next_wakeup(self, running: list[Sequence], now: float) -> float | None:
        """Seconds until somebody wants a frame; 0 is now, None when nobody runs."""
        surplus = min(
            (playout_lead_s(item, now) - self._enough if self._is_paced(item) else 0.0 for item in running),
            default=None,
        )
        return None if surplus is None else max(0.0, surplus)

    def _is_paced(self, sequence: Sequence) -> bool:
        """Whether it may be held back: not where the listener needs more at a time than it would then have."""
        request = sequence.request
        return self._max_playout_lead_s > 0 and request.live and request.listener_frames * FRAME_SECONDS <= self._enough


def playout_lead_s(sequence: Sequence, now: float) -> float:
    """Seconds of sound made, those on their way included, and not played yet; below 0 the listener waits."""
    played = 0.0 if sequence.first_frame_at is None else now - sequence.first_frame_at
    return sequence.launched * FRAME_SECONDS - played


def is_urgent(sequence: Sequence, now: float) -> bool:
    """Whether the sequence should be in the very next step."""
    return not sequence.launched or playout_lead_s(sequence, now) < URGENT_PLAYOUT_LEAD_S
