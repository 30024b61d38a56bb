"""Which of the two voices speaks: Fisher's linear discriminant on the long-term spectrum, without the pitch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from csm_codec.resample import Pcm

_WINDOW, _HOP = 1024, 512
_BANDS = 32
_LOUDEST_SHARE = 0.5  # of the frames are used, without pauses


class SpeakerClassifier:
    """Learns from clips of both; knows clips at the same sample rate."""

    def __init__(self, clips: Sequence[Sequence[Pcm]]) -> None:
        """clips: of speaker 0, and of speaker 1."""
        features = [np.stack([_spectrum(clip) for clip in of_one]) for of_one in clips]
        means = [rows.mean(axis=0) for rows in features]
        scatter = sum(np.cov(rows.T) for rows in features) + 1e-3 * np.eye(_BANDS)
        self._direction = np.linalg.solve(scatter, means[1] - means[0])
        self._threshold = float(self._direction @ (means[0] + means[1]) / 2)

    def speaker(self, pcm: Pcm) -> int:
        return int(self._direction @ _spectrum(pcm) > self._threshold)


def _spectrum(pcm: Pcm) -> npt.NDArray[np.float64]:
    """Mean log spectrum in bands that widen towards the top, without its level."""
    starts = np.arange(0, max(1, len(pcm) - _WINDOW), _HOP)
    frames = pcm[np.minimum(starts[:, None] + np.arange(_WINDOW), len(pcm) - 1)] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    power = power[np.argsort(power.sum(axis=1))[-max(1, int(len(power) * _LOUDEST_SHARE)) :]]
    edges = np.unique(np.round(np.geomspace(4, 330, _BANDS + 1)).astype(int))
    edges = np.concatenate([np.arange(edges[0] - (_BANDS + 1 - len(edges)), edges[0]), edges])
    bands = np.stack([power[:, a:b].sum(axis=1) for a, b in zip(edges, edges[1:], strict=False)], axis=1)
    mean = np.log(bands + 1e-9).mean(axis=0)
    return mean - mean.mean()
