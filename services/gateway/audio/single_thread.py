"""Keeps FFmpeg from starting threads where PyAV gives no way to say so. It knows nothing of audio."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeing_one_cpu() -> Iterator[None]:
    """Makes FFmpeg see one CPU inside the block, the one this thread is bound to, so that it starts no thread pool.

    For encoders: PyAV puts a filter graph before them at their first frame, and each graph would keep a thread per CPU.
    Only Linux lets a thread choose its CPU. Other systems start the pools.
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
