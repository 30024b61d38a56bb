"""Prints the progress of a synthesis on standard error: one updated line on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import TextIO

SPARSE_S = 1.0  # between lines
SILENCE_S = 5.0  # before it is reported


class Progress:
    """Progress of one synthesis."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._next_line_s = 0.0
        self._heard_s = time.monotonic()

    def waiting(self, target: str) -> None:
        self._show(f"waiting for the first audio from {target} ...")

    def audio(self, audio_s: float, elapsed_s: float) -> None:
        """audio_s: length of what has come"""
        self._heard_s = time.monotonic()
        line = f"{audio_s:.1f} s of audio after {elapsed_s:.1f} s"
        if self._live:
            self._show(line)
        elif elapsed_s >= self._next_line_s:
            self._show(line)
            self._next_line_s = elapsed_s + SPARSE_S

    async def watch(self, deadline_s: float) -> None:
        """Tells of each silence, in which the client may wait for a server that it has lost, until it is cancelled.

        deadline_s: of the call, which begins now
        """
        ends_s, told_of_s = time.monotonic() + deadline_s, 0.0
        while True:
            await asyncio.sleep(1)
            now_s = time.monotonic()
            if now_s - self._heard_s >= SILENCE_S and (self._live or told_of_s != self._heard_s):
                told_of_s = self._heard_s
                silent_s, left_s = now_s - self._heard_s, max(0.0, ends_s - now_s)
                self._show(f"no audio for {silent_s:.0f} s; waiting {left_s:.0f} s more (--deadline) ...")

    def end(self) -> None:
        """Ends the updated line, so that the next output starts on a clean one."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()
