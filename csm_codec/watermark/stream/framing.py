"""One stream's audio cut into the frames of the package's STFT, piece by piece. Plain numpy.

The package pads the clip with zeros to a whole number of windows (at least one sample, at most a window), mirrors half
a window at both ends, and takes a frame every half window. This gives the same frames as audio arrives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csm_codec.resample import Pcm

UNKNOWN = 2**62  # number of frames of a clip that has not ended


class Framer:
    """Audio in, windows of 2 * hop samples out, one every hop."""

    def __init__(self, hop: int, position: int = 0, first_frame: int = 0) -> None:
        """position: of the next sample in the clip. first_frame: the frame of the first window, whose samples must not
        lie before `position`; 0 starts at the clip's beginning
        """
        self._hop = hop
        self._unused = (first_frame - 1) * hop - position if first_frame else 0  # samples before the first window
        self._samples: Pcm = np.zeros(0, np.float32)  # from the start of the next window on, once `_begun`
        self._begun = first_frame > 0
        self._received = position
        self.num_frames = UNKNOWN

    @property
    def num_samples(self) -> int:
        """Samples of the clip so far, without padding."""
        return self._received

    def push(self, pcm: Pcm) -> None:
        self._received += len(pcm)
        self._append(pcm)

    def finish(self) -> None:
        """The clip is over: the padding makes its last frames, and their number is known."""
        window = 2 * self._hop
        self._append(np.zeros(window - self._received % window, np.float32))
        padded = self._received + window - self._received % window
        self.num_frames = 1 + padded // self._hop
        # Mirrored without repeating the last sample; the oldest sample that this needs is still here, because the
        # last window has not been taken.
        self._append(self._samples[-2 : -2 - self._hop : -1])

    def take(self) -> Pcm | None:
        """The next window, or None until more audio or the end has come."""
        if len(self._samples) < 2 * self._hop:
            return None
        window = self._samples[: 2 * self._hop]
        self._samples = self._samples[self._hop :]
        return window

    def _append(self, pcm: npt.NDArray[np.float32]) -> None:
        unused = min(self._unused, len(pcm))
        self._unused -= unused
        self._samples = np.concatenate((self._samples, pcm[unused:]))
        if not self._begun and len(self._samples) > self._hop:
            self._begun = True
            self._samples = np.concatenate((self._samples[self._hop : 0 : -1], self._samples))
