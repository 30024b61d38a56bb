"""Where the C library takes memory from, and how much is in use."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from mmap import PAGESIZE
from pathlib import Path

LARGE_BYTES = 2**20
_STATM = Path("/proc/self/statm")
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


class _MallInfo(ctypes.Structure):
    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]  # of glibc's malloc.h


def why_not_measured() -> str:
    """Why `heap_bytes` tells nothing here; empty where it does."""
    if getattr(ctypes.CDLL(None), "mallinfo2", None) is None:
        return "the C library is not glibc 2.33 or later, which alone tells how much memory is in use"
    try:
        _resident_bytes()
    except (OSError, ValueError, IndexError) as error:
        return f"{_STATM} cannot be read: {error}"
    return ""


def heap_bytes(at_least: int = 0) -> int:
    """What is allocated of the C library, in all arenas; 0 with another library than glibc, and if it cannot be more
    than `at_least`. Memory that was freed and is kept for later does not count.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None or _resident_bytes() <= at_least:  # the library looks at every free block: up to 15 ms
        return 0
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return int(info.field_7 + info.field_4)  # uordblks, hblkhd: in arenas, and blocks of their own


def return_free_pages() -> None:
    """All that was freed goes back to the system. It looks at every free block."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_bytes() -> int:
    """Of Linux, where glibc is."""
    return int(os.pread(_opened(_STATM), 200, 0).split()[1]) * PAGESIZE


@cache
def _opened(path: Path) -> int:
    """Opened once: a flood of connections, in which memory must be known, leaves no file to be opened."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
