"""SIGTERM and SIGINT when a stage cannot drain: while it imports and loads, and for a second signal. Ends the process.

The kernel ignores these signals for process 1 of a container unless the program handles them. So every program installs
the handlers before its slow imports. It knows no stage, and imports nothing slow itself.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FLUSH_S = 3.0  # longest wait for the last output of a process


def end_at_signals(code: int | None = 0) -> None:
    """Makes SIGTERM and SIGINT end the process at once, until a stage handles them itself.

    code: the exit status; 0 while nothing is served yet, as after a drain. None: 128 + signal number, as shells do.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        end_at_once(128 + number if code is None else code)

    for number in SIGNALS:
        signal.signal(number, end)


def end_at_once(code: int) -> NoReturn:
    """Ends the process without waiting for its threads, one of which may be loading weights.

    What is left to write gets FLUSH_S: nobody may read it.
    """
    flushed = threading.Event()
    with suppress(RuntimeError):  # no further thread may begin
        # A signal's handler calls this: `threading` may be interrupted with its lock, for which its own threads wait.
        _thread.start_new_thread(_flush, (flushed,))
        flushed.wait(FLUSH_S)
    os._exit(code)


def _flush(flushed: threading.Event) -> None:
    for each in (*logging.getLogger().handlers, sys.stdout, sys.stderr):
        try:
            each.flush()
        except (OSError, ValueError, RuntimeError, AttributeError):  # closed, or written to right now
            pass
    flushed.set()
