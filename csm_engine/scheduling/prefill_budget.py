"""How many prompts share a prefill pass: as many as the streams that play can wait for. No torch, no clock.

The first prompt of a pass is always prefilled. Others join while the pass is expected to take at most half of the
least playout lead. The estimate assumes that a pass takes time in proportion to its rows, which is the worst case.
"""

from __future__ import annotations

from csm_engine.scheduling.seconds_per_row import SecondsPerRow

_SHARE_OF_LEAD = 0.5


class PrefillBudget:
    """A running estimate of a prefill pass's seconds per row, compared with playout leads."""

    def __init__(self) -> None:
        self._mean = SecondsPerRow()

    def observe(self, rows: int, seconds: float) -> None:
        """Records that a pass of `rows` prompt rows took `seconds`. A pass of no rows tells nothing."""
        if rows:
            self._mean.observe(rows, seconds)

    def forget(self) -> None:
        """Allows every pass until the next one has been observed."""
        self._mean.forget()

    def allows(self, rows: int, least_lead_s: float | None) -> bool:
        """Whether a pass may have `rows` rows. least_lead_s: of the streams that play, in seconds; None without any."""
        return least_lead_s is None or rows * self._mean.value <= _SHARE_OF_LEAD * max(0.0, least_lead_s)
