"""The distance of two clips of the same utterance: of their log mel spectra, in decibels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csm_codec.resample import Pcm

_WINDOW, _HOP, _BANDS = 1024, 256, 64
_SAMPLE_RATE_HZ = 24000
_FLOOR = 1e-5  # power below which differences are inaudible


def mel_distance_db(pcm: Pcm, other: Pcm) -> float:
    """Root mean square over time and 64 mel bands of 0 to 8 kHz; both at 24 kHz, the longer one is cut."""
    length = min(len(pcm), len(other))
    difference = _log_mel(pcm[:length]) - _log_mel(other[:length])
    return float(np.sqrt(np.mean(difference**2)))


def _log_mel(pcm: Pcm) -> npt.NDArray[np.float64]:
    starts = np.arange(0, max(1, len(pcm) - _WINDOW), _HOP)
    frames = pcm[np.minimum(starts[:, None] + np.arange(_WINDOW), len(pcm) - 1)] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return 10 * np.log10(power @ _FILTERS + _FLOOR)


def _filters() -> npt.NDArray[np.float64]:
    """(bins, _BANDS) triangles on the mel scale of O'Shaughnessy, "Speech Communication", 1987."""
    top = 2595 * np.log10(1 + 8000 / 700)
    centres = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    hertz = np.arange(_WINDOW // 2 + 1)[:, None] * _SAMPLE_RATE_HZ / _WINDOW
    rising = (hertz - centres[:-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[2:] - hertz) / (centres[2:] - centres[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


_FILTERS = _filters()
