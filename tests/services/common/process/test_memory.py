"""Large blocks go back to the system, also where glibc would keep them, after such blocks have been freed once; smaller
ones are kept. What is in use is measured.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.process import memory

NO_MORE_FILES = """
import resource
from services.common.process.memory import heap_bytes, why_not_measured
assert why_not_measured() == ""
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    open("/dev/null")
except OSError as error:
    before = heap_bytes()
    blocks = [bytes(50_000) for _ in range(4000)]
    print(error.strerror, round((heap_bytes() - before) / 2**20))
"""

PROGRAM = """
import ctypes, sys
from services.common.process.memory import LARGE_BYTES, return_large_blocks
class Info(ctypes.Structure):
    _fields_ = [(f"field_{n}", ctypes.c_int) for n in range(10)]  # field_3 counts blocks of their own
mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Info
if sys.argv[1] == "on":
    return_large_blocks()
block = bytes(8 * LARGE_BYTES)
del block
before = mallinfo().field_3
block = bytes(4 * LARGE_BYTES)
print(mallinfo().field_3 - before)
block = bytes(LARGE_BYTES // 2)
before = mallinfo().field_0  # bytes that the others have from the system
del block
print(before - mallinfo().field_0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
@pytest.mark.parametrize(("switch", "num_blocks"), [("on", 1), ("off", 0)])
def test_large_blocks_are_mapped_separately_and_smaller_ones_are_kept(switch: str, num_blocks: int) -> None:
    printed = subprocess.check_output([sys.executable, "-c", PROGRAM, switch], text=True)
    assert [int(number) for number in printed.split()] == [num_blocks, 0]


HEAP = """
from services.common.process.memory import heap_bytes, return_free_pages, return_large_blocks
return_large_blocks()
MIB = 2**20
before = heap_bytes()
blocks = [bytes(50_000) for _ in range(4000)]  # as gRPC takes in a message
between = [bytes(600) for _ in range(100)]
kept = heap_bytes()
print(round((kept - before) / MIB), heap_bytes(kept // 4) == 0, heap_bytes(100_000 * MIB))
del blocks
print(round((heap_bytes() - before) / MIB))
return_free_pages()
print(heap_bytes(kept // 2))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_in_use_counts_and_freed_memory_does_not() -> None:
    printed = subprocess.check_output([sys.executable, "-c", HEAP], text=True)
    assert printed.split() == ["191", "False", "0", "0", "0"]


class OtherLibrary:
    """A C library without glibc's functions, like musl and that of macOS."""


@pytest.mark.parametrize(
    ("library", "statm", "why"),
    [(OtherLibrary, "/proc/self/statm", "is not glibc"), (None, "/proc/self/none", "none cannot be read")],
)
def test_unmeasurable_memory_is_reported_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, library: Callable[[], object] | None, statm: str, why: str
) -> None:
    if library is not None:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library())
    else:
        monkeypatch.setattr(memory, "_STATM", Path(statm))
    assert why in memory.why_not_measured()
    if library is not None:
        memory.return_large_blocks()
        memory.return_free_pages()
        assert memory.heap_bytes() == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_is_measurable_with_glibc() -> None:
    assert memory.why_not_measured() == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_is_measurable_when_no_file_can_be_opened() -> None:
    """As in a flood of connections with half messages that fill the memory."""
    assert subprocess.check_output([sys.executable, "-c", NO_MORE_FILES], text=True) == "Too many open files 191\n"
