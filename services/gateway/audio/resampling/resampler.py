"""Resamples a stream piece by piece. The joined pieces equal the resampled whole.

FFmpeg's libswresample: windowed sinc, 64 taps at the lower of the two rates.
"""

from __future__ import annotations

from typing import Protocol

from services.gateway.audio.frames import to_frame
from services.gateway.audio.graph import ConversionGraph

FILTER_TAPS = 64
_TAIL_S = 0.02  # of silence, longer than half the filter at any rate


class Resampler(Protocol):
    """Mono 16-bit samples in at one rate, out at another."""

    def push(self, samples: bytes) -> bytes:
        """The samples available so far. They lag the input by up to 4 ms of audio."""

    def flush(self) -> bytes:
        """The rest. Nothing may be pushed after it."""


class SameRate:
    """Nothing to do."""

    def push(self, samples: bytes) -> bytes:
        return samples

    def flush(self) -> bytes:
        return b""


class StreamingResampler:
    """Makes exactly ceil(samples in x to_hz / from_hz) samples; the first in and the first out are of one moment."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz = from_hz
        self._to_hz = to_hz
        self._taken = 0
        self._made = 0
        # The default of 32 taps costs 2 dB just below the end of the band.
        self._graph = ConversionGraph(from_hz, "s16", "mono", to_hz, "s16", filter_size=str(FILTER_TAPS))

    def push(self, samples: bytes) -> bytes:
        if not samples:
            return b""
        self._taken += len(samples) // 2
        return self._counted(self._graph.push(to_frame(samples, self._from_hz)))

    def flush(self) -> bytes:
        """Pushes the last samples through the filter with silence. Samples of the silence itself are dropped."""
        silence = bytes(2 * round(_TAIL_S * self._from_hz))
        return self._counted(self._graph.push(to_frame(silence, self._from_hz)) + self._graph.push(None))

    def _counted(self, samples: bytes) -> bytes:
        due = -(-self._taken * self._to_hz // self._from_hz) - self._made
        kept = samples[: 2 * due]
        self._made += len(kept) // 2
        return kept


def open_resampler(from_hz: int, to_hz: int) -> Resampler:
    return SameRate() if from_hz == to_hz else StreamingResampler(from_hz, to_hz)
