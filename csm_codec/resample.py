"""Resampling with libsoxr, mono float32. A stream gives bit for bit the same as the whole signal at once.

It knows no codec and no format.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

Pcm = npt.NDArray[np.float32]  # (samples,)

QUALITY = "HQ"  # 20 bits, linear phase


def resample(pcm: Pcm, rate_hz: int, wanted_hz: int) -> Pcm:
    """The whole signal at another rate: len(pcm) * wanted_hz / rate_hz samples, rounded."""
    if rate_hz == wanted_hz or len(pcm) == 0:
        return pcm
    return np.asarray(soxr.resample(pcm, rate_hz, wanted_hz, quality=QUALITY), dtype=np.float32)


class StreamResampler:
    """Resamples in pieces. The output lags by about 40 ms, except for equal rates; the last call returns the rest."""

    def __init__(self, rate_hz: int, wanted_hz: int) -> None:
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != wanted_hz:
            self._stream = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32", quality=QUALITY)

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """The samples that are ready, possibly none."""
        if self._stream is None:
            return pcm
        return np.asarray(self._stream.resample_chunk(pcm, last=last), dtype=np.float32)
