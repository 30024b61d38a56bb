"""The result of a run, and whether it has passed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.chaos.faults import FaultRecord
from bench.chaos.listeners import Gap, Listeners
from bench.chaos.refusals import refusal_report
from bench.listeners.percentiles import spread

AFTER_S = 6.0  # a fault may have caused gaps that end so long after it has healed
MOST_REFUSED = 0.5
SHOWN = 10  # failures and refusals in the result


def result_of(
    *,
    struck: Sequence[FaultRecord],
    listeners: Listeners,
    rss_mb: tuple[dict[str, float], dict[str, float]],
    slots: tuple[dict[str, float], dict[str, float]],
    tracebacks: dict[str, int],
) -> dict[str, Any]:
    """The figures of a run. rss_mb, slots: (before, after), by process."""
    outcomes = listeners.outcomes
    by_kind = Counter(fault.kind for fault in struck)
    rows = [
        {"fault": kind, "count": count, "longest_gap_s": _longest_near(kind, struck, outcomes.gaps)}
        for kind, count in sorted(by_kind.items())
    ]
    rows += [{"fault": k, "count": n, "longest_gap_s": None} for k, n in sorted(listeners.reader_faults.items())]
    gaps = [gap.seconds for gap in outcomes.gaps]
    return {
        "faults": sum(row["count"] for row in rows),
        "streams": outcomes.streams,
        "ok": outcomes.ok,
        "refused": outcomes.refused,
        "refusals": [refusal_report(refusal, struck) for refusal in outcomes.refusals[:SHOWN]],
        "failed": len(outcomes.failed),
        "different": len(outcomes.different),
        "unmarked": listeners.unmarked,
        "failures": [*outcomes.failed, *outcomes.different][:SHOWN],
        "longest_gap_s": spread(gaps, (50, 95), scale=1, digits=2) or dict.fromkeys(("p50", "p95", "max")),
        "rss_mb": {"before": rss_mb[0], "after": rss_mb[1]},
        "slots": {"before": slots[0], "after": slots[1]},
        "tracebacks": tracebacks,
        "rows": rows,
    }


def why_not_passed(result: dict[str, Any]) -> list[str]:
    """The reasons why the run has not passed; none for a pass."""
    wrong = [f"{result[what]} {what}" for what in ("failed", "different") if result[what]]
    if result["unmarked"]:
        wrong.append(f"without a mark: {result['unmarked']}")
    if taken := {name: count for name, count in result["slots"]["after"].items() if count}:
        wrong.append(f"slots are still taken: {taken}")
    if raised := {name: count for name, count in result["tracebacks"].items() if count}:
        wrong.append(f"tracebacks in the logs: {raised}")
    if not result["crowd"] and result["refused"] > MOST_REFUSED * result["streams"]:
        wrong.append(f"{result['refused']} of {result['streams']} streams were refused")
    return wrong


def _longest_near(kind: str, struck: Sequence[FaultRecord], gaps: Sequence[Gap]) -> float | None:
    """The longest gap that ended during or soon after a fault of this kind. Other faults may have been its cause."""
    near = [
        gap.seconds
        for gap in gaps
        if any(f.kind == kind and f.from_s <= gap.ended_at_s <= f.until_s + AFTER_S for f in struck)
    ]
    return round(max(near), 2) if near else None
