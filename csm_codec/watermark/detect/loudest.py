"""The loudest piece of a recording that comes in pieces. No torch."""

from __future__ import annotations

import numpy as np

from csm_codec.resample import Pcm


def loudest(pcm: Pcm, length: int) -> slice:
    """Where the piece of that length with the most energy is. The whole recording if it is no longer than that."""
    if len(pcm) <= length:
        return slice(0, len(pcm))
    energies = _energies(pcm, length)
    start = int(energies.argmax())
    return slice(start, start + length)


def _energies(pcm: Pcm, length: int) -> np.ndarray:
    """The energy of every piece of that length."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(pcm, dtype=np.float64))))
    return np.asarray(energy[length:] - energy[:-length])


class LoudestPiece:
    """Keeps the loudest piece so far, and as much of the newest audio as the next piece may need."""

    def __init__(self, length: int) -> None:
        """length: of the piece, in samples."""
        self._length = length
        self._newest: Pcm = np.zeros(0, np.float32)
        self._best: Pcm | None = None
        self._best_energy = -1.0

    def push(self, pcm: Pcm) -> None:
        audio = np.concatenate((self._newest, pcm))
        if len(audio) >= self._length:
            energies = _energies(audio, self._length)
            start = int(energies.argmax())
            if energies[start] > self._best_energy:
                self._best_energy = float(energies[start])
                self._best = audio[start : start + self._length].copy()
            audio = audio[len(audio) - self._length + 1 :]
        self._newest = audio

    def get(self) -> Pcm:
        """The loudest piece. All audio so far if that is no longer than a piece."""
        return self._newest if self._best is None else self._best
