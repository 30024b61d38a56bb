"""Settings and statistics of the C library's allocator, and the machine's memory."""

from __future__ import annotations

import ctypes
import math
import os
from functools import cache
from mmap import PAGESIZE
from pathlib import Path

LARGE_BYTES = 2**20
_STATM = Path("/proc/self/statm")
MAX_ARENAS = 4  # threads that share an arena wait for each other: with two, other calls took longer in a flood
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def return_large_blocks() -> None:
    """Makes glibc return large freed blocks to the system. To be called before there are threads. Other C libraries are
    left as they are.

    By default glibc raises its mmap threshold when it sees large blocks, and then keeps freed ones in its arenas, so a
    gateway would stay as large as at its peak. The trim threshold is set too: its default of 128 KiB would make
    serializing messages of that size take six times as long.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, MAX_ARENAS)


class _MallInfo(ctypes.Structure):
    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]  # of glibc's malloc.h


def why_not_measured() -> str:
    """Why `heap_bytes` does not work here; "" if it does."""
    if getattr(ctypes.CDLL(None), "mallinfo2", None) is None:
        return "the C library is not glibc 2.33 or later, which alone tells how much memory is in use"
    try:
        _resident_bytes()
    except (OSError, ValueError, IndexError) as error:
        return f"{_STATM} cannot be read: {error}"
    return ""


def heap_bytes(at_least: int = 0) -> int:
    """Bytes allocated from glibc, in all arenas, without freed memory that it keeps. 0 with another C library.

    at_least: the exact number is not needed below this; 0 is returned if it cannot be larger, which is fast.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None or _resident_bytes() <= at_least:  # mallinfo2 walks all free blocks, up to 15 ms
        return 0
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return int(info.field_7 + info.field_4)  # uordblks, hblkhd: in arenas, and blocks of their own


def return_free_pages() -> None:
    """Returns all freed memory to the system. Walks all free blocks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_bytes() -> int:
    return int(os.pread(_opened(_STATM), 200, 0).split()[1]) * PAGESIZE


@cache
def _opened(path: Path) -> int:
    """Opened once, because a flood of connections may use up all file descriptors."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def memory_bytes() -> float:
    """The machine's memory; infinity where it is not told."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * PAGESIZE)
    except (OSError, ValueError):
        return math.inf
