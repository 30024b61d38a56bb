"""Streams that were refused, and what was struck while they asked: from the record of faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.chaos.faults import Struck

BEFORE_S = 6.0  # a fault that has healed so shortly before the call may still be felt: gateways connect anew


@dataclass(frozen=True)
class Refusal:
    """One stream that ended before its first sample. Times are on the monotonic clock."""

    name: str  # of the stream
    reason: str
    message: str
    asked_at_s: float
    refused_at_s: float


def described(refusal: Refusal, struck: Sequence[Struck]) -> dict[str, Any]:
    """What the result says of it. Seconds count from the refusal, so those before it are negative.

    `down` names the replicas that a fault held at the moment of the refusal, `faults` every fault of the call's time
    and of shortly before it.
    """
    near = [
        fault
        for fault in struck
        if fault.from_s <= refusal.refused_at_s and fault.until_s >= refusal.asked_at_s - BEFORE_S
    ]
    near.sort(key=lambda fault: fault.from_s)
    return {
        "stream": refusal.name,
        "reason": refusal.reason,
        "message": refusal.message,
        "asked_s": round(refusal.asked_at_s - refusal.refused_at_s, 2),
        "down": sorted({fault.replica for fault in near if fault.until_s >= refusal.refused_at_s}),
        "faults": [
            {
                "fault": fault.kind.removesuffix(f" {fault.stage}"),
                "replica": fault.replica,
                "from_s": round(fault.from_s - refusal.refused_at_s, 2),
                "until_s": round(fault.until_s - refusal.refused_at_s, 2),
            }
            for fault in near
        ],
    }
