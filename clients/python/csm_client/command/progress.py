"""Prints the progress of a synthesis on standard error: one updated line on a terminal, sparse lines elsewhere."""

from __future__ import annotations

from typing import TextIO

SPARSE_S = 1.0  # between lines


class Progress:
    """Progress of one synthesis."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._next_line_s = 0.0

    def waiting(self, target: str) -> None:
        self._show(f"waiting for the first audio from {target} ...")

    def audio(self, audio_s: float, elapsed_s: float) -> None:
        """audio_s: length of what has come"""
        line = f"{audio_s:.1f} s of audio after {elapsed_s:.1f} s"
        if self._live:
            self._show(line)
        elif elapsed_s >= self._next_line_s:
            self._show(line)
            self._next_line_s = elapsed_s + SPARSE_S

    def end(self) -> None:
        """Ends the updated line, so that the next output starts on a clean one."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()
