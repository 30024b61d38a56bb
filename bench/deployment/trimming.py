"""Runs a command `python -m MODULE ...` in this process, which returns all freed memory to the system on SIGUSR1.

    python -m bench.deployment.trimming python -m services.gateway --port 0

Afterwards resident memory is memory in use, up to parts of pages. Before, the allocator keeps freed blocks, and garbage
in cycles waits for Python's next full collection.
"""

from __future__ import annotations

import gc
import runpy
import signal
import sys

from services.common.process.memory import return_free_pages

TRIMMED = "freed memory is given back"


def main() -> None:
    """Runs the module that the command line names to its end."""
    _, _, _, module, *arguments = sys.argv
    signal.signal(signal.SIGUSR1, lambda *_: _trim())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _trim() -> None:
    gc.collect()
    return_free_pages()
    print(TRIMMED, flush=True)


if __name__ == "__main__":
    main()
