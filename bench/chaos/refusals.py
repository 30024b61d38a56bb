"""Refused streams, and the faults at that time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.chaos.faults import FaultRecord

BEFORE_S = 6.0  # a fault that healed so shortly before the call may still matter: gateways reconnect


@dataclass(frozen=True)
class Refusal:
    """One stream that ended before its first sample. Times are on the monotonic clock."""

    name: str  # of the stream
    reason: str
    message: str
    asked_at_s: float
    refused_at_s: float


def refusal_report(refusal: Refusal, struck: Sequence[FaultRecord]) -> dict[str, Any]:
    """The refusal in the result's JSON. Seconds count from the refusal; those before it are negative.

    `down` names the replicas under a fault at the moment of the refusal; `faults` has every fault during the call and
    shortly before it.
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
