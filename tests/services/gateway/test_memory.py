"""Large blocks go back to the system, also where glibc would keep them: after such blocks have been freed once."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from services.gateway.memory import LARGE_BYTES, return_large_blocks
class Info(ctypes.Structure):
    _fields_ = [(f"field_{n}", ctypes.c_int) for n in range(10)]  # the fourth counts blocks of their own
mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Info
if sys.argv[1] == "on":
    return_large_blocks()
block = bytes(8 * LARGE_BYTES)
del block
before = mallinfo().field_3
block = bytes(4 * LARGE_BYTES)
print(mallinfo().field_3 - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
@pytest.mark.parametrize(("switch", "num_blocks"), [("on", 1), ("off", 0)])
def test_a_large_block_is_one_of_its_own(switch: str, num_blocks: int) -> None:
    printed = subprocess.check_output([sys.executable, "-c", PROGRAM, switch], text=True)
    assert int(printed) == num_blocks
