"""Executes a command `python -m MODULE ...` in this process, which gives back what it can free when it gets SIGUSR1.

    python -m bench.deployment.trimming python -m services.gateway --port 0

What is resident afterwards is in use, up to parts of pages. Otherwise the allocator keeps freed blocks, and what is in
cycles waits for Python's next full collection.
"""

from __future__ import annotations

import gc
import runpy
import signal
import sys

from services.common.process.memory import return_free_pages

TOLD = "freed memory is given back"


def main() -> None:
    """Runs the module of the command line to its end."""
    _, _, _, module, *arguments = sys.argv
    signal.signal(signal.SIGUSR1, lambda *_: _give_back())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _give_back() -> None:
    gc.collect()
    return_free_pages()
    print(TOLD, flush=True)


if __name__ == "__main__":
    main()
