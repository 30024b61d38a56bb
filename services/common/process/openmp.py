"""How torch's threads wait for each other. OpenMP reads the setting once, when torch is imported."""

from __future__ import annotations

import os


def let_waiting_threads_sleep() -> None:
    """Makes them sleep instead of spin, unless the environment says otherwise, because stages share cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
