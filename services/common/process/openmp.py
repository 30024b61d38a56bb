"""How torch's threads wait for each other. To be called before torch is imported, whose OpenMP reads it once."""

from __future__ import annotations

import os


def let_waiting_threads_sleep() -> None:
    """They sleep in place of spinning, unless the environment says otherwise: the stages share their cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
