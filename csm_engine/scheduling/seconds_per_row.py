"""A running mean of how long a row takes. No torch, no clock."""

from __future__ import annotations

_WEIGHT_OF_LAST = 0.2


class SecondsPerRow:
    """Of frame steps, or of prefill passes: the latest weigh most. value: 0 while nothing has been observed."""

    def __init__(self) -> None:
        self.value = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """rows: at least 1, which took `seconds` together"""
        per_row = seconds / rows
        if not self.value:
            self.value = per_row
        self.value += _WEIGHT_OF_LAST * (per_row - self.value)

    def forget(self) -> None:
        """As if nothing had been observed."""
        self.value = 0.0
