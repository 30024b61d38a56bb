"""The embedder on a CPU, one frame of one stream at a time: spectra in, the samples of the mark out.

It makes the same marks as spectral_embedder.py, which holds the formula and works on a batch of fixed width. Here a row
without a frame costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from copy import copy

import torch
from torch import Tensor

from csm_codec.resample import Pcm
from csm_codec.watermark.cpu.frame_network import Frame, FrameNetwork
from csm_codec.watermark.embed.spectral_embedder import depth_removed
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.marked_stream import MarkedStream, Step


class FrameEmbedder:
    """Marks frames row by row. The caller numbers the rows. A frame's mark comes out up to `lag` steps after it."""

    def __init__(self, silentcipher: SilentCipher, dtype: torch.dtype) -> None:
        """dtype: of the networks' convolutions."""
        hparams = silentcipher.hparams
        self._network = FrameNetwork(silentcipher, dtype)
        self._n_fft, self._hop, self._band = hparams.n_fft, hparams.hop, hparams.band
        self._window = torch.hann_window(hparams.n_fft)
        energy = self._window.square()
        self._envelope = energy[: hparams.hop] + energy[hparams.hop :]
        self._begin_rows()

    def with_own_memory(self) -> FrameEmbedder:
        """The same weights and no rows, for another thread."""
        other = copy(self)
        other._network = self._network.with_own_memory()
        other._begin_rows()
        return other

    def _begin_rows(self) -> None:
        self._spectra: dict[int, deque[Tensor]] = {}  # by row: (band,) of the newest lag + 1 frames
        self._overlaps: dict[int, Tensor] = {}  # by row: (hop,), of the last output

    @property
    def lag(self) -> int:
        return self._network.lag

    def run(self, streams: Mapping[int, MarkedStream]) -> None:
        """Marks all that streams, by row, have ready."""
        for row, stream in streams.items():
            while (step := stream.next_step()) is not None:
                if (block := self.step(row, step)) is not None:
                    stream.add_mark(block)

    @torch.inference_mode()
    def step(self, row: int, step: Step) -> Pcm | None:
        """Takes a row's next frame. Returns the next hop of its mark if there is one."""
        spectrum = torch.fft.rfft(torch.from_numpy(step.window) * self._window)
        magnitudes = spectrum.abs()
        level = step.observe(float(magnitudes.square().mean()))
        frame = Frame(row, step.frame, step.num_frames, step.symbols)
        message = self._network.step(frame, (magnitudes[: self._network.bins] * level.gain).numpy())
        if step.frame == 0:
            self._spectra[row] = deque(maxlen=self.lag + 1)
        recent = self._spectra[row]
        recent.append(spectrum[: self._band])
        if step.output is None:
            return None
        if nearer := step.output - (step.frame - self.lag):  # to the newest frame than with the whole look-ahead
            message = self._network.without_future(frame, nearer)
        assert message is not None
        marked = depth_removed(recent[step.output - step.frame - 1], torch.from_numpy(message) * level.magnitude)
        return self._block(row, step.output, marked)

    def _block(self, row: int, frame: int, spectrum: Tensor) -> Pcm | None:
        """The next hop of the mark. None for the first frame of a row: a hop needs two frames."""
        samples = torch.fft.irfft(spectrum, n=self._n_fft) * self._window
        overlap, self._overlaps[row] = self._overlaps.get(row), samples[self._hop :]
        if frame == 0:
            return None
        assert overlap is not None
        return ((overlap + samples[: self._hop]) / self._envelope).numpy()
