"""Writes log lines from a thread of its own, because nobody may read them: a full pipe, or a file system that hangs.

The event loop and the models' threads log, and would wait without end. It knows no format.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TextIO

MOST_LINES = 10_000  # that wait to be written; further ones are lost
FLUSH_S = 2.0  # longest wait for the last lines


class LineWriter(logging.Handler):
    """A handler that never waits for its stream. Lines that are lost are counted in a line of their own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(MOST_LINES)
        self._num_lost = 0
        threading.Thread(target=self._write_all, args=(stream,), name="log lines", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._num_lost += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Waits until the lines are written, for at most FLUSH_S."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, FLUSH_S)

    def _write_all(self, stream: TextIO) -> None:
        while True:
            line = self._lines.get()
            try:
                stream.write(line + "\n")
                stream.flush()
            except Exception:  # it is closed, or there is none, and there is nobody to tell
                pass
            self._lines.task_done()
            if self._num_lost:
                self._tell_lost()

    def _tell_lost(self) -> None:
        with self.lock:  # type: ignore[union-attr]  # typeshed: a handler may have none
            if not self._lines.full():
                lost, self._num_lost = self._num_lost, 0
                text = "%d log lines are lost: standard error did not take them"
                self.emit(logging.LogRecord("csm.logs", logging.ERROR, __file__, 0, text, (lost,), None))
