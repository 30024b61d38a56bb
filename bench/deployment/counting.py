"""Runs a command `python -m MODULE ...` in this process, which on SIGUSR1 prints how much memory it has allocated.

    python -m bench.deployment.counting python -m services.gateway --port 0

It collects garbage first: what is in cycles waits for Python's next full collection. Resident memory tells less: it
holds freed blocks too, which allocators keep, and goes up and down by tens of MB.
"""

from __future__ import annotations

import gc
import re
import runpy
import signal
import sys
from typing import NamedTuple

from services.common.process.memory import heap_bytes

_IN_USE = "in use: {} MB from the C library, {} blocks of Python"
_LINE = re.compile(_IN_USE.format(r"([\d.]+)", r"(\d+)"))


class InUse(NamedTuple):
    """By a process, without garbage."""

    allocated_mb: float  # from the C library: large objects, numpy, and what libraries in C take
    python_blocks: int  # small objects, up to 512 bytes each, have memory of Python's own


def found_in(log: str) -> list[InUse]:
    """All that a process has printed, oldest first."""
    return [InUse(float(allocated_mb), int(blocks)) for allocated_mb, blocks in _LINE.findall(log)]


def main() -> None:
    """Runs the module that the command line names to its end."""
    _, _, _, module, *arguments = sys.argv
    signal.signal(signal.SIGUSR1, lambda *_: _tell())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _tell() -> None:
    gc.collect()
    print(_IN_USE.format(round(heap_bytes() / 2**20, 2), sys.getallocatedblocks()), flush=True)


if __name__ == "__main__":
    main()
