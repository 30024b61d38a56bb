"""Keeps FFmpeg from starting threads where PyAV gives no way to say so. It knows nothing of audio."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeing_one_cpu() -> Iterator[None]:
    """Whatever FFmpeg sets up within counts one CPU, the one that this thread may run on, and starts no thread pool.

    For encoders: PyAV puts a filter graph before them at their first frame, and each graph would keep a thread per CPU.
    Systems other than Linux do not let a thread choose; there the pools are started.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(list(allowed))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
