"""Percentiles of measured times, by nearest rank."""

from __future__ import annotations

import math
from collections.abc import Iterable


def spread(
    values: Iterable[float], percents: Iterable[int] = (50, 95, 99), scale: float = 1000, digits: int = 1
) -> dict[str, float] | None:
    """Percentiles and the largest value, times `scale`, by default seconds in milliseconds. None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    at = {f"p{percent}": nearest_rank(ordered, percent) for percent in percents} | {"max": ordered[-1]}
    return {name: round(scale * value, digits) for name, value in at.items()}


def nearest_rank(values: Iterable[float], percent: int) -> float:
    """The percentile of values, of which there is at least one."""
    ordered = sorted(values)
    return ordered[math.ceil(percent * len(ordered) / 100) - 1]
