"""CPU time of another process with a resolution of nanoseconds; a tick of /proc is 10 ms, longer than a short run."""

from __future__ import annotations

import ctypes
import os
import time

_LIBC = ctypes.CDLL(None)


def process_cpu_s(pid: int) -> float:
    """CPU seconds that all threads of the process have used. Needs Linux: clock_getcpuclockid(3).

    Raises OSError when there is no such process.
    """
    clock = ctypes.c_int()
    failed = _LIBC.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if failed:
        raise OSError(failed, os.strerror(failed), f"process {pid}")
    return time.clock_gettime(clock.value)
