"""A file in a network file system that does not answer: whoever opens it waits."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GIVE_UP_S = 30.0  # until a test fails that would wait without end


@contextmanager
def hanging(path: Path) -> Iterator[None]:
    """While the block runs, each thread that opens the file waits in the system call. Afterwards the file is back.

    A named pipe takes its place. Raises AssertionError if the block did not end by itself.
    """
    kept, pipe, late = path.with_suffix(".kept"), path.with_suffix(".pipe"), threading.Event()
    os.link(path, kept)
    os.mkfifo(pipe)
    (draft := path.with_suffix(".draft")).hardlink_to(pipe)
    draft.replace(path)

    def release() -> None:
        if path.is_fifo():
            kept.replace(path)
        try:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            assert error.errno == errno.ENXIO, "nobody waits"

    def give_up() -> None:
        late.set()
        release()

    timer = threading.Timer(GIVE_UP_S, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        release()
    assert not late.is_set(), f"all waited for {path}"
