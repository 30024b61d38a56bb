"""For tests of the scheduler without a model: small schedulers and sequences, admissions, prefill passes."""

from __future__ import annotations

import itertools

import numpy as np

from csm_engine.kv.slot_pool import SlotPool
from csm_engine.model.prompt import Prompt
from csm_engine.scheduling.pacing import Pacing
from csm_engine.scheduling.scheduler import FrameBatch, PrefillBatch, PrefillChunk, Scheduler
from csm_engine.scheduling.sequence import Sequence, SequenceStatus
from csm_engine.types import GenerationRequest, Segment

_TEXTS = itertools.count()


def sequence(rows: int = 5, *, has_listener: bool = False, playout_lead_s: float = 0.0) -> Sequence:
    text = np.zeros((rows, 3), np.int32)
    text[:, -1] = next(_TEXTS)  # no two prompts are alike
    prompt = Prompt(text, text_token_count=rows)
    request = GenerationRequest(
        "r", [Segment(0, "x")], max_frames=9, has_listener=has_listener, playout_lead_s=playout_lead_s
    )
    return Sequence(request, prompt)


def scheduler(*, num_slots: int = 2, max_waiting: int = 1) -> Scheduler:
    return Scheduler(SlotPool(num_slots), max_waiting=max_waiting, prefill_chunk=4, pacing=no_limits())


def no_limits() -> Pacing:
    return Pacing(max_rows=8, saturation_batch=8, max_playout_lead_s=0.0)


def admitted(policy: Scheduler) -> list[Sequence]:
    """The sequences that get a slot when each prompt is prefilled before the next one is admitted."""
    items = []
    while (news := policy.admit()) is not None:
        items.append(news[0])
        while news[0].status is SequenceStatus.PREFILLING:
            run_prefill(policy)
    return items


def run_prefill(policy: Scheduler) -> PrefillChunk:
    """The next chunk, which must be alone in its pass, and the frame step before it, if any."""
    (chunk,) = run_pass(policy)
    return chunk


def run_pass(policy: Scheduler, now: float = 0.0) -> list[PrefillChunk]:
    """The chunks of the next pass, and the frame step before it, if any."""
    work = policy.next_work(now)
    if isinstance(work, FrameBatch):
        work = policy.next_work(now)
    assert isinstance(work, PrefillBatch)
    policy.prefilled(work)
    return work.chunks
