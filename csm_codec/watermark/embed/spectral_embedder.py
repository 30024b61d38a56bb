"""The embedder for a batch of streams, one STFT frame of each at a time: spectra in, the samples of the mark out.

The mark lowers magnitudes and keeps phases (ensure_negative_message), so its spectrum is -min(message, |X|) * X / |X|
in the message band and zero elsewhere, and the inverse transform of that alone is what is added to the audio.

A step is a fixed sequence of operations over buffers at fixed addresses, so CUDA graphs hold it: one for each bucket of
rows, over the first rows of the lane. A codec frame completes one or two STFT frames of a stream (published networks:
1.72 in the mean, at a phase of each stream's own), and a stream's end some more. So the shape that is fixed is one STFT
frame of every row, with masks, and a step is launched until no row has one: twice a codec frame. Rows near the start of
their stream, whose look-ahead is cut off, need the layers in front again; a graph of its own does that for NEAR_ROWS
rows at a time. The end of a stream brings some ten frames at once, so it is copied to a narrow lane and ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from csm_bundle.runtime.captured import Captured, graph_pool, host_room, on_device, on_host
from csm_codec.buckets import bucket_of, buckets_up_to
from csm_codec.resample import Pcm
from csm_codec.watermark.keys.payload import PERIOD
from csm_codec.watermark.networks.embedding import EmbedNetwork, Rows
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.marked_stream import MarkedStream, Step

NEAR_ROWS = 64
ENDING_ROWS = 16
# Columns of a row's numbers in front of its symbols. NEARER: frames by which the look-ahead is shorter than the whole.
_FRAME, _NUM_FRAMES, _TAKES_PART, _GIVES, _NEARER, _NUM_COLUMNS = range(6)


class SpectralEmbedder:
    """Marks `width` rows. A frame's mark comes out up to `lag` steps after the frame."""

    def __init__(
        self,
        silentcipher: SilentCipher,
        width: int,
        dtype: torch.dtype = torch.float32,
        *,
        constant_shape: bool = False,
        ending: bool = True,
    ) -> None:
        """dtype: of the networks' convolutions. constant_shape: one bucket, the whole width. ending: with a narrow lane
        in which streams end.
        """
        hparams = silentcipher.hparams
        self._n_fft, self._hop, self._band = hparams.n_fft, hparams.hop, hparams.band
        self._device = device = silentcipher.device
        self._ending: SpectralEmbedder | None = None
        if ending:
            self._ending = SpectralEmbedder(
                silentcipher, min(ENDING_ROWS, width), dtype, constant_shape=True, ending=False
            )
        with torch.inference_mode():
            self._network = EmbedNetwork(silentcipher, width, dtype)
            window = torch.hann_window(hparams.n_fft)
            energy = window.square()
            self._host_window: Pcm = window.numpy()
            self._alternating = np.tile(np.array([1, -1], np.float32), hparams.hop)
            self._window = window.to(device)
            self._envelope = (energy[: hparams.hop] + energy[hparams.hop :]).to(device)
            self._spectra = torch.zeros(width, self.lag, self._band, dtype=torch.complex64, device=device)
            self._overlap = torch.zeros(width, self._hop, device=device)
            self._allocate(width, device)
            self._buckets = [width] if constant_shape else buckets_up_to(width)
            pool = graph_pool(device)
            self._near = Captured(self._look_nearer, device, pool)
            self._messages_of, self._blocks_of = {}, {}
            for bucket in reversed(self._buckets):
                self._messages_of[bucket] = Captured(partial(self._make_messages, bucket), device, pool)
                self._blocks_of[bucket] = Captured(partial(self._make_blocks, bucket), device, pool)

    def _allocate(self, width: int, device: torch.device) -> None:
        """What the host writes before a step, and what the parts of a step leave for the next part and the host."""
        columns = _NUM_COLUMNS + self._network.encoder_lag + 1
        self._windows = torch.zeros(width, self._n_fft, device=device)
        self._levels = torch.ones(width, 2, device=device)  # gain into the network, and strength of the mark
        self._numbers = torch.zeros(width, columns, dtype=torch.int64, device=device)
        self._near_rows = torch.zeros(2, min(NEAR_ROWS, width), dtype=torch.int64, device=device)  # to read, to write
        self._spectrum = torch.zeros(width, self._band, dtype=torch.complex64, device=device)
        self._messages = torch.zeros(width + 1, self._band, device=device)  # the last one is never read
        self._blocks = torch.zeros(width, self._hop, device=device)

    @property
    def lag(self) -> int:
        return self._network.lag

    def run(self, streams: Mapping[int, MarkedStream]) -> None:
        """Marks all that streams, by row, have ready."""
        ends: dict[int, Step] = {}  # the first step of each one's end
        going, bucket = dict(streams), self._bucket(streams)
        while going:
            steps = {row: step for row, stream in going.items() if (step := stream.next_step()) is not None}
            ends |= {row: step for row, step in steps.items() if step.is_end and self._ending is not None}
            going = {row: streams[row] for row in steps.keys() - ends.keys()}
            if going:
                self._add_marks(self.step({row: steps[row] for row in going}, bucket), streams)
        rows = sorted(ends)
        for start in range(0, len(rows), ENDING_ROWS):
            self._end({row: ends[row] for row in rows[start : start + ENDING_ROWS]}, streams)

    @torch.inference_mode()
    def _end(self, steps: Mapping[int, Step], streams: Mapping[int, MarkedStream]) -> None:
        """Lets these streams, by row, end in the narrow lane."""
        assert self._ending is not None
        taken = on_device(torch.tensor(list(steps)), self._device)
        for theirs, mine in zip(self._ending._states, self._states, strict=True):
            theirs[: len(taken)] = mine[taken]
        by_row = {place: streams[row] for place, row in enumerate(steps)}
        next_steps = dict(enumerate(steps.values()))
        while next_steps:
            self._add_marks(self._ending.step(next_steps), by_row)
            next_steps = {row: step for row, stream in by_row.items() if (step := stream.next_step()) is not None}

    def _add_marks(self, blocks: Mapping[int, Pcm], streams: Mapping[int, MarkedStream]) -> None:
        for row, block in blocks.items():
            streams[row].add_mark(block)

    def _bucket(self, rows: Iterable[int]) -> int:
        return bucket_of(max(rows) + 1, self._buckets)

    @property
    def _states(self) -> tuple[Tensor, ...]:
        """Of all streams, rows first."""
        return (*self._network.states, self._spectra, self._overlap)

    @torch.inference_mode()
    def step(self, steps: Mapping[int, Step], bucket: int = 0) -> dict[int, Pcm]:
        """Takes one frame of each given row. Returns a hop of the mark for each row that has one ready.

        bucket: that holds the rows; 0 is the smallest
        """
        bucket = bucket or self._bucket(steps)
        if starting := [row for row, step in steps.items() if step.frame == 0]:
            self._begin(starting)
        self._write(steps, bucket)
        self._messages_of[bucket]()
        near = [row for row, step in steps.items() if step.output is not None and _nearer(step, self.lag)]
        size = self._near_rows.shape[1]
        for start in range(0, len(near), size):
            self._write_near(near[start : start + size])
            self._near()
        self._blocks_of[bucket]()
        blocks = on_host(self._blocks[:bucket]).numpy()
        # A hop needs two frames: the first frame alone gives none.
        return {row: blocks[row] for row, step in steps.items() if step.output is not None and step.output > 0}

    def _begin(self, rows: Iterable[int]) -> None:
        numbers = on_device(torch.tensor(list(rows)), self._device)
        for state in self._states:
            state.index_fill_(0, numbers, 0)

    def _write(self, steps: Mapping[int, Step], bucket: int) -> None:
        """What the device reads in this step."""
        windows = host_room((bucket, self._n_fft), torch.float32, self._device)
        levels = host_room((bucket, 2), torch.float32, self._device)
        numbers = host_room((bucket, self._numbers.shape[1]), torch.int64, self._device)
        windows_of, levels_of, numbers_of = windows.numpy(), levels.numpy(), numbers.numpy()
        levels_of[:] = 1
        for row, step in steps.items():
            np.multiply(step.window, self._host_window, out=windows_of[row])
            level = step.observe(self._mean_square(windows_of[row]))
            levels_of[row] = level.gain, level.magnitude
            oldest = step.frame - self._network.encoder_lag
            symbols = (step.symbols[(oldest + i) % PERIOD] for i in range(self._network.encoder_lag + 1))
            gives = step.output is not None
            nearer = _nearer(step, self.lag) if gives else 0
            numbers_of[row] = (step.frame, step.num_frames, 1, gives, nearer, *symbols)
        self._windows[:bucket].copy_(windows, non_blocking=True)
        self._levels[:bucket].copy_(levels, non_blocking=True)
        self._numbers[:bucket].copy_(numbers, non_blocking=True)

    def _mean_square(self, windowed: Pcm) -> float:
        """Over all bins of the window's spectrum, by Parseval's theorem: each bin but the first and last counts twice
        in the sum over the samples.
        """
        ends = float(windowed.sum()) ** 2 + float(windowed @ self._alternating) ** 2
        return (self._n_fft * float(windowed @ windowed) + ends) / (2 * (self._hop + 1))

    def _write_near(self, near: list[int]) -> None:
        numbers = host_room(tuple(self._near_rows.shape), torch.int64, self._device)
        numbers[0], numbers[1] = near[0], len(self._messages) - 1  # the rest write the row that is never read
        numbers[:, : len(near)] = torch.tensor(near)
        self._near_rows.copy_(numbers, non_blocking=True)

    def _make_messages(self, bucket: int) -> None:
        """What to subtract from the magnitudes of each row's output, as far as it looks ahead wholly."""
        numbers = self._numbers[:bucket]
        spectrum = torch.fft.rfft(self._windows[:bucket])
        self._spectrum[:bucket].copy_(spectrum[:, : self._band])
        carrier = spectrum[:, : self._network.bins].abs() * self._levels[:bucket, :1]
        rows = Rows(numbers[:, _FRAME], numbers[:, _NUM_FRAMES], numbers[:, _TAKES_PART] > 0)
        self._messages[:bucket].copy_(self._network.step(carrier, numbers[:, _NUM_COLUMNS:], rows))

    def _look_nearer(self) -> None:
        """The same for rows whose look-ahead is shorter."""
        read, written = self._near_rows
        numbers, nearer = self._numbers, self._numbers[:, _NEARER][read].clamp_min(1)
        self._messages[written] = self._network.without_future(
            numbers[:, _NUM_COLUMNS:], numbers[:, _FRAME], read, nearer
        )

    def _make_blocks(self, bucket: int) -> None:
        """The next hop of each row's mark."""
        numbers, spectra, overlap = self._numbers[:bucket], self._spectra[:bucket], self._overlap[:bucket]
        rows = Rows(numbers[:, _FRAME], numbers[:, _NUM_FRAMES], numbers[:, _TAKES_PART] > 0)
        recent = torch.cat((spectra, self._spectrum[:bucket, None]), dim=1)  # of frame - lag up to frame
        rows.keep(recent[:, 1:], spectra)
        delayed = recent[torch.arange(bucket, device=self._device), numbers[:, _NEARER]]
        message = self._messages[:bucket] * self._levels[:bucket, 1:]
        samples = torch.fft.irfft(depth_removed(delayed, message), n=self._n_fft) * self._window
        self._blocks[:bucket].copy_((overlap + samples[:, : self._hop]) / self._envelope)
        gives = numbers[:, _GIVES, None] > 0
        torch.where(gives, samples[:, self._hop :], overlap, out=overlap)


def _nearer(step: Step, lag: int) -> int:
    """Frames from the whole look-ahead to what the output sees."""
    assert step.output is not None
    return step.output - (step.frame - lag)


def depth_removed(spectrum: Tensor, message: Tensor) -> Tensor:
    """What the mark adds to the spectrum: -min(message, |X|) * X / |X| at each bin. Both arguments are (..., band)."""
    magnitude = spectrum.abs()
    depth = torch.minimum(message, magnitude)
    return -spectrum * (depth / magnitude.clamp_min(torch.finfo(torch.float32).tiny))
