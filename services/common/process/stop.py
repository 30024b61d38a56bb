"""SIGTERM and SIGINT when a stage cannot drain: while it imports and loads, and for a second signal. Ends the process.

The kernel ignores these signals for process 1 of a container unless the program handles them. So every program installs
the handlers before its slow imports. It knows no stage, and imports nothing slow itself.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_at_signals(code: int | None = 0) -> None:
    """Makes SIGTERM and SIGINT end the process at once, until a stage handles them itself.

    code: the exit status; 0 while nothing is served yet, as after a drain. None: 128 + signal number, as shells do.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        end_at_once(128 + number if code is None else code)

    for number in SIGNALS:
        signal.signal(number, end)


def end_at_once(code: int) -> NoReturn:
    """Ends the process without waiting for its threads, one of which may be loading weights."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError, AttributeError):  # closed, or written to right now
            pass
    os._exit(code)
