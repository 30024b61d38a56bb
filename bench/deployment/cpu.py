"""Processor time of another process, in nanoseconds: the ticks of /proc are 10 ms, and a short run fits in one."""

from __future__ import annotations

import ctypes
import os
import time

_LIBC = ctypes.CDLL(None)


def process_cpu_s(pid: int) -> float:
    """Seconds that all its threads have used. It needs Linux: clock_getcpuclockid(3).

    Raises OSError when there is no such process.
    """
    clock = ctypes.c_int()
    failed = _LIBC.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if failed:
        raise OSError(failed, os.strerror(failed), f"process {pid}")
    return time.clock_gettime(clock.value)
