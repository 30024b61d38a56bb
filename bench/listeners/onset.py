"""Where speech begins in audio that comes in pieces. Silence at the beginning delays the first audible sound.

Windows of 20 ms every 10 ms; speech begins at the first of two windows in a row whose level, without its mean, reaches
-45 dBFS. These numbers are those of the public methodology (nari-labs/benchmarks, `AudibleOnsetDetector`, version 1).
"""

from __future__ import annotations

import numpy as np

WINDOW_S = 0.020
HOP_S = 0.010
LEVEL = 10 ** (-45 / 20)  # of full scale
WINDOWS_IN_A_ROW = 2


class AudibleOnset:
    """Finds where speech begins in audio that comes piece by piece."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate = sample_rate_hz
        self._window = round(sample_rate_hz * WINDOW_S)
        self._hop = round(sample_rate_hz * HOP_S)
        self._held = b""  # samples of the next, incomplete window
        self._next = 0  # the first sample of that window
        self._loud = 0  # loud windows in a row
        self.position_s: float | None = None  # where speech begins, once it has

    def feed(self, samples: bytes) -> None:
        """samples: mono, 16-bit little-endian"""
        if self.position_s is not None:
            return
        self._held += samples
        audio = np.frombuffer(self._held, dtype="<i2") / 32768
        start = 0
        while start + self._window <= len(audio) and self.position_s is None:
            self._take(audio[start : start + self._window])
            start += self._hop
        self._held = self._held[2 * start :]

    def _take(self, window: np.ndarray) -> None:
        self._loud = self._loud + 1 if float(window.std()) >= LEVEL else 0
        if self._loud == WINDOWS_IN_A_ROW:
            self.position_s = (self._next - self._hop) / self._rate
        self._next += self._hop
