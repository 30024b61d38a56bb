"""A moving average of the time that a row takes. No torch, no clock."""

from __future__ import annotations

_NEWEST_WEIGHT = 0.2


class SecondsPerRow:
    """An exponential moving average over frame steps or prefill passes. value: 0 before the first observation."""

    def __init__(self) -> None:
        self.value = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """seconds: of all `rows` rows together. rows: at least 1."""
        per_row = seconds / rows
        if not self.value:
            self.value = per_row
        self.value += _NEWEST_WEIGHT * (per_row - self.value)

    def reset(self) -> None:
        self.value = 0.0
