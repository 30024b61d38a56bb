"""Any frames of any streams at once: spectra in, the mark's share of the spectra out, as samples.

The same marks as spectral_marker.py makes for a batch of fixed width, where the formula is; here no row costs anything
while it has nothing to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from csm_engine.codec.resample import Pcm
from csm_engine.codec.watermark.frame_network import Frame, FrameNetwork
from csm_engine.codec.watermark.marked_stream import MarkedStream, Step
from csm_engine.codec.watermark.silentcipher import SilentCipher
from csm_engine.codec.watermark.spectral_marker import depth_removed

AT_ONCE_BYTES = 2**20  # of a layer's products: more would leave the CPU's second cache
MOST_AT_ONCE = 16  # frames


class FrameMarker:
    """Rows are numbers of the caller's. What a row's frame adds comes out up to `lag` steps later, as its steps say."""

    def __init__(self, silentcipher: SilentCipher, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the networks' convolutions."""
        hparams = silentcipher.hparams
        self._network = FrameNetwork(silentcipher, dtype)
        self._n_fft, self._hop, self._band = hparams.n_fft, hparams.hop, hparams.band
        self._device = silentcipher.device
        self._window = torch.hann_window(hparams.n_fft, device=self._device)
        energy = self._window.square()
        self._envelope = energy[: hparams.hop] + energy[hparams.hop :]
        self._spectra: dict[int, deque[Tensor]] = {}  # by row: (band,) of the newest lag + 1 frames
        self._overlaps: dict[int, Tensor] = {}  # by row: (hop,), of the last output
        self._at_once = max(1, min(MOST_AT_ONCE, AT_ONCE_BYTES // self._network.product_bytes))

    @property
    def lag(self) -> int:
        return self._network.lag

    def run(self, streams: Mapping[int, MarkedStream]) -> None:
        """Marks all that streams, by row, have ready."""
        while steps := list(self._ready(streams)):
            for row, block in self.step(steps):
                streams[row].add_mark(block)

    def _ready(self, streams: Mapping[int, MarkedStream]) -> Iterator[tuple[int, Step]]:
        """A frame of each row in turn, so that rows go through the networks side by side."""
        going = dict(streams)
        for _ in range(MOST_AT_ONCE):
            for row, stream in list(going.items()):
                step = stream.next_step()
                if step is None:
                    del going[row]
                else:
                    yield row, step

    @torch.inference_mode()
    def step(self, steps: Sequence[tuple[int, Step]]) -> list[tuple[int, Pcm]]:
        """Takes frames of rows, those of a row in order. Gives hops of the mark, those of a row in order."""
        return [block for group in self._groups(steps) for block in self._step(group)]

    def forget(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._network.forget(row)
            self._spectra.pop(row, None)
            self._overlaps.pop(row, None)

    def _groups(self, steps: Sequence[tuple[int, Step]]) -> Iterator[list[tuple[int, Step]]]:
        """Not too many at once; and nothing behind a frame whose mark must be seen before its row goes on."""
        group: list[tuple[int, Step]] = []
        hurried: set[int] = set()
        for row, step in steps:
            if len(group) == self._at_once or row in hurried:
                yield group
                group, hurried = [], set()
            group.append((row, step))
            if self._nearer(step):
                hurried.add(row)
        if group:
            yield group

    def _nearer(self, step: Step) -> int:
        """How much nearer to the newest frame the output is than with the whole look-ahead."""
        return 0 if step.output is None else step.output - (step.frame - self.lag)

    def _step(self, steps: Sequence[tuple[int, Step]]) -> Iterator[tuple[int, Pcm]]:
        windows = torch.from_numpy(np.stack([step.window for _, step in steps])).to(self._device) * self._window
        # One at a time: the transform of a batch need not have the bits of that of one.
        spectra = torch.stack([torch.fft.rfft(window) for window in windows])
        magnitudes = spectra.abs()
        mean_squares = magnitudes.square().mean(dim=1).tolist()
        levels = [step.observe(mean_square) for (_, step), mean_square in zip(steps, mean_squares, strict=True)]
        gains = torch.tensor([level.gain for level in levels], device=self._device)[:, None]
        frames = [Frame(row, step.frame, step.num_frames, step.symbols) for row, step in steps]
        messages = self._network.step(frames, magnitudes[:, : self._network.bins] * gains)
        outputs: list[tuple[int, int, Tensor, Tensor]] = []  # row, frame, spectrum, message
        for frame, (row, step), spectrum, message, level in zip(frames, steps, spectra, messages, levels, strict=True):
            recent = self._recent(row, step.frame)
            recent.append(spectrum[: self._band])
            if step.output is not None:
                if nearer := self._nearer(step):
                    message = self._network.without_future(frame, nearer)
                assert message is not None
                outputs.append((row, step.output, recent[step.output - step.frame - 1], message * level.magnitude))
        return self._blocks(outputs)

    def _recent(self, row: int, frame: int) -> deque[Tensor]:
        if frame == 0:
            self._spectra[row] = deque(maxlen=self.lag + 1)
        return self._spectra[row]

    def _blocks(self, outputs: Sequence[tuple[int, int, Tensor, Tensor]]) -> Iterator[tuple[int, Pcm]]:
        """The next hop of each output's mark: the first frame of a row alone gives none, a hop needs two."""
        if not outputs:
            return
        marked = depth_removed(
            torch.stack([spectrum for _, _, spectrum, _ in outputs]), torch.stack([message for *_, message in outputs])
        )
        for (row, frame, *_), spectrum in zip(outputs, marked, strict=True):
            samples = torch.fft.irfft(spectrum, n=self._n_fft) * self._window
            if frame > 0:
                yield row, ((self._overlaps[row] + samples[: self._hop]) / self._envelope).cpu().numpy()
            self._overlaps[row] = samples[self._hop :]
