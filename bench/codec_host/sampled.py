"""Where a process spends its CPU time, by module: the stack is looked at every millisecond of CPU time.

Unlike cProfile this costs small functions no more than large ones. It knows nothing of threads other than the main one.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERVAL_S = 0.001


@contextmanager
def sampled(package: str) -> Iterator[Counter[str]]:
    """Counts samples by the module of the innermost frame within the package, until the block ends."""
    counts: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        while frame is not None and not frame.f_globals.get("__name__", "").startswith(package):
            frame = frame.f_back
        if frame is not None:
            counts[frame.f_globals["__name__"]] += 1

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    try:
        yield counts
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
