"""The embedder for a batch of streams, one STFT hop at a time: spectra in, the samples of the mark out.

The mark lowers magnitudes and keeps phases (ensure_negative_message), so its spectrum is -min(message, |X|) * X / |X|
in the message band and zero elsewhere, and the inverse transform of that alone is what is added to the audio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from csm_codec.resample import Pcm
from csm_codec.watermark.keys.payload import PERIOD
from csm_codec.watermark.networks.embedding import EmbedNetwork, Rows
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.marked_stream import MarkedStream, Step


class SpectralEmbedder:
    """Marks `width` rows. A frame's mark comes out up to `lag` steps after the frame."""

    def __init__(self, silentcipher: SilentCipher, width: int, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the networks' convolutions."""
        hparams = silentcipher.hparams
        self._silentcipher, self._dtype = silentcipher, dtype
        self._width, self._n_fft, self._hop, self._band = width, hparams.n_fft, hparams.hop, hparams.band
        self._device = silentcipher.device
        self._window = torch.hann_window(hparams.n_fft, device=self._device)
        energy = self._window.square()
        self._envelope = energy[: hparams.hop] + energy[hparams.hop :]
        self._rows = torch.arange(width, device=self._device)
        self._start()

    def _start(self) -> None:
        self._network = EmbedNetwork(self._silentcipher, self._width, self._dtype)
        self._spectra = torch.zeros(self._width, self.lag, self._band, dtype=torch.complex64, device=self._device)
        self._overlap = torch.zeros(self._width, self._hop, device=self._device)

    def forget(self, rows: Iterable[int]) -> None:
        """Fresh states for all rows."""
        self._start()

    def run(self, streams: Mapping[int, MarkedStream]) -> None:
        """Marks all that streams, by row, have ready."""
        while steps := {row: step for row, stream in streams.items() if (step := stream.next_step()) is not None}:
            for row, block in self.step(steps).items():
                streams[row].add_mark(block)

    @property
    def lag(self) -> int:
        return self._network.lag

    @torch.inference_mode()
    def step(self, steps: Mapping[int, Step]) -> dict[int, Pcm]:
        """Takes one frame of each given row. Returns a hop of the mark for each row that has one ready."""
        windows = torch.zeros(self._width, self._n_fft)
        frame, num_frames, nearer = (torch.zeros(self._width, dtype=torch.long) for _ in range(3))
        symbols = torch.zeros(self._width, self._network.encoder_lag + 1, dtype=torch.long)
        exec_mask, output_mask = (torch.zeros(self._width, dtype=torch.bool) for _ in range(2))
        for row, step in steps.items():
            windows[row] = torch.from_numpy(step.window)
            frame[row], num_frames[row], exec_mask[row] = step.frame, step.num_frames, True
            oldest = step.frame - self._network.encoder_lag
            symbols[row] = torch.tensor([step.symbols[(oldest + i) % PERIOD] for i in range(symbols.shape[1])])
            if step.output is not None:
                nearer[row], output_mask[row] = step.output - (step.frame - self.lag), True
        rows = Rows(
            frame.to(self._device),
            num_frames.to(self._device),
            near_edge=any(step.frame < self.lag or step.frame >= step.num_frames for step in steps.values()),
            exec_mask=None if len(steps) == self._width else exec_mask.to(self._device),
            reset_mask=(exec_mask & (frame == 0)).to(self._device)
            if any(s.frame == 0 for s in steps.values())
            else None,
        )
        spectrum = torch.fft.rfft(windows.to(self._device) * self._window)
        message = self._message(steps, rows, spectrum.abs(), symbols.to(self._device), nearer)
        blocks = (
            self._blocks(rows, spectrum, message, nearer.to(self._device), output_mask.to(self._device)).cpu().numpy()
        )
        # A hop needs two frames: the first frame alone gives none.
        return {row: blocks[row] for row, step in steps.items() if step.output is not None and step.output > 0}

    def _message(
        self, steps: Mapping[int, Step], rows: Rows, magnitude: Tensor, symbols: Tensor, nearer: Tensor
    ) -> Tensor:
        """What to subtract from the magnitudes of each row's output, (width, band).

        nearer: (width,) frames by which the look-ahead is shorter than the whole one.
        """
        gain, strength = self._levels(steps, magnitude)
        message = self._network.step(magnitude[:, : self._network.bins] * gain[:, None], symbols, rows)
        if num_nearer := int(nearer.max()):
            messages = (message, *self._network.without_future(symbols, rows.frame, num_nearer))
            message = torch.stack(messages, dim=1)[self._rows, nearer.to(self._device)]
        return message * strength[:, None]

    def _blocks(self, rows: Rows, spectrum: Tensor, message: Tensor, nearer: Tensor, output_mask: Tensor) -> Tensor:
        """The next hop of each row's mark, (width, hop)."""
        recent = torch.cat((self._spectra, spectrum[:, None, : self._band]), dim=1)  # of frame - lag up to frame
        self._spectra = rows.kept(recent[:, 1:], self._spectra)
        delayed = recent[self._rows, nearer]
        samples = torch.fft.irfft(depth_removed(delayed, message), n=self._n_fft) * self._window
        overlap = rows.cleared(self._overlap)
        self._overlap = torch.where(output_mask[:, None], samples[:, self._hop :], overlap)
        return (overlap + samples[:, : self._hop]) / self._envelope

    def _levels(self, steps: Mapping[int, Step], magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Gain into the network and strength of the mark, (width,) each."""
        mean_squares = magnitude.square().mean(dim=1).tolist()
        levels = torch.zeros(2, self._width)
        for row, step in steps.items():
            level = step.observe(mean_squares[row])
            levels[0, row], levels[1, row] = level.gain, level.magnitude
        gain, strength = levels.to(self._device)
        return gain, strength


def depth_removed(spectrum: Tensor, message: Tensor) -> Tensor:
    """What the mark adds to the spectrum: -min(message, |X|) * X / |X| at each bin. Both arguments are (..., band)."""
    magnitude = spectrum.abs()
    depth = torch.minimum(message, magnitude)
    return -spectrum * (depth / magnitude.clamp_min(torch.finfo(torch.float32).tiny))
