"""How many prompts share a prefill pass: no more than the playing streams can wait for. No torch, no clock.

The first prompt of a pass is always prefilled. Others join while the pass is expected to take at most half of the
least playout lead. The estimate assumes that a pass takes time in proportion to its rows, which is the worst case.
"""

from __future__ import annotations

from csm_engine.scheduling.seconds_per_row import SecondsPerRow

_SHARE_OF_LEAD = 0.5


class PrefillBudget:
    """Estimates a prefill pass's time from earlier passes, and compares it with playout leads."""

    def __init__(self) -> None:
        self._seconds_per_row = SecondsPerRow()

    def observe(self, rows: int, seconds: float) -> None:
        """Records that a pass of `rows` prompt rows took `seconds`. Passes without rows are ignored."""
        if rows:
            self._seconds_per_row.observe(rows, seconds)

    def reset(self) -> None:
        """Allows every pass until the next one is observed."""
        self._seconds_per_row.reset()

    def allows(self, rows: int, least_lead_s: float | None) -> bool:
        """Whether a pass may have `rows` rows. least_lead_s: of the playing streams, in seconds; None if none plays."""
        return least_lead_s is None or rows * self._seconds_per_row.value <= _SHARE_OF_LEAD * max(0.0, least_lead_s)
