"""Where the C library takes memory from."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 2**20
MAX_ARENAS = 4  # threads wait for each other where there are few: with two, other calls took longer in a flood
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def return_large_blocks() -> None:
    """Large blocks go back to the system when they are freed. Call it before there are threads.

    By default glibc keeps what is freed for later, in each of many arenas, once it has seen blocks of that size: a
    gateway stays as large as its largest moment. Once it is told what is large, it gives back every 128 KiB that are
    freed at an end, unless it is told about them too: serializing messages of that size took six times as long. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, MAX_ARENAS)
