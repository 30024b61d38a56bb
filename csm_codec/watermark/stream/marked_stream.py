"""One stream's audio in the embedder: what is framed, what waits for its mark, what is ready. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from csm_bundle.errors import WatermarkError
from csm_codec.resample import Pcm
from csm_codec.watermark.networks.hparams import Hparams
from csm_codec.watermark.stream.block_resample import BlockResampler
from csm_codec.watermark.stream.coverage import Coverage, CoverageMeter
from csm_codec.watermark.stream.framing import Framer
from csm_codec.watermark.stream.level import Level, LevelEstimate
from csm_codec.watermark.stream.look_ahead import LookAhead
from csm_codec.watermark.stream.progress import START, ClipProgress, Grid

FROM_THE_START = Grid(first_frame=0, lead=0)


@dataclass(frozen=True, slots=True)
class Step:
    """One row's part in a step of the batch."""

    window: Pcm  # (n_fft,)
    frame: int  # index since the start of the stream
    num_frames: int  # framing.UNKNOWN until the stream has ended
    output: int | None  # the frame whose mark comes out
    symbols: tuple[int, ...]
    observe: Callable[[float], Level]  # takes the frame's mean square over all bins


class MarkedStream:
    """Audio at the stream's rate in, the same audio with the mark out, later."""

    def __init__(
        self,
        hparams: Hparams,
        sample_rate_hz: int,
        symbols: tuple[int, ...],
        level: LevelEstimate,
        look_ahead: LookAhead,
        lag: int,
        grid: Grid = FROM_THE_START,
        before: ClipProgress = START,
    ) -> None:
        """symbols: from the clip's first frame on. lag: the networks' own look-ahead, in frames. before: the clip's
        progress in earlier streams; grid and level continue the same progress
        """
        self._to_network = BlockResampler(sample_rate_hz, hparams.sample_rate_hz)
        self._from_network = BlockResampler(hparams.sample_rate_hz, sample_rate_hz)
        self._framer = Framer(hparams.hop)
        self._framer.push(np.zeros(grid.lead, np.float32))
        self._lead_left = grid.lead  # samples of silence that still wait for their mark
        self._grid, self._before, self._square_sum = grid, before, 0.0
        self._hop = hparams.hop
        self._silence = np.zeros(hparams.n_fft, np.float32)
        self._symbols, self._level = grid.symbols(symbols), level
        self._look_ahead, self._lag = look_ahead, lag
        self._meter = CoverageMeter(before.audible_frames)
        self._full_scale = hparams.n_fft * 3 / 8  # mean square over the bins of a signal whose mean square is 1
        self._newest_level = Level(0.0, 0.0)
        self._next_frame = self._next_output = 0
        self._unmarked: list[Pcm] = []  # at the stream's rate
        self._marks: list[Pcm] = []  # at the network's rate
        self._num_mark_samples = 0
        self._ready_marks: Pcm = np.zeros(0, np.float32)  # at the stream's rate
        self._ended = False

    @property
    def coverage(self) -> Coverage:
        """Of the clip, this stream so far and those before it."""
        return self._meter.coverage(int(self._hops))

    @property
    def progress(self) -> ClipProgress:
        """Of the clip, once this stream has ended."""
        return ClipProgress(
            position=self._grid.first_frame * self._hop + self._framer.num_samples,
            hops=self._before.hops + self._hops,
            square_sum=self._before.square_sum + self._square_sum,
            audible_frames=self._meter.audible_frames(int(self._hops)),
        )

    @property
    def _hops(self) -> float:
        """Of audio that has come."""
        return (self._framer.num_samples - self._grid.lead) / self._hop

    def push(self, pcm: Pcm, *, last: bool) -> None:
        self._unmarked.append(pcm)
        self._framer.push(self._to_network.push(pcm, last=last))
        if last:
            self._ended = True
            self._framer.finish()

    def next_step(self) -> Step | None:
        """What the next step needs of this stream; None until more audio comes."""
        frame, num_frames, look_ahead = self._next_frame, self._framer.num_frames, self._lag
        if frame < num_frames:
            window = self._framer.take()
            has_audio = (frame + 1) * self._hop > self._grid.lead
            observe = self._observe if has_audio else self._observe_nothing
            look_ahead = min(self._lag, self._look_ahead.at(frame))
        elif frame < num_frames + self._lag:
            window, observe = self._silence, self._observe_nothing  # the steps that push the last marks out
        else:
            return None
        if window is None:
            return None
        self._next_frame += 1
        # None while the look-ahead grows, and at the end where it is larger than it was before.
        output = self._next_output if frame - look_ahead == self._next_output else None
        self._next_output += output is not None
        return Step(window, frame, num_frames, output, self._symbols, observe)

    def add_mark(self, block: Pcm) -> None:
        """The next hop of the mark. Raises WatermarkError if it is not finite."""
        if not np.isfinite(block).all():
            raise WatermarkError("The watermark is not finite.")
        self._marks.append(block)

    def take_marked(self) -> Pcm:
        """The samples with a complete mark."""
        marks = self._take_marks()
        self._ready_marks = np.concatenate((self._ready_marks, marks))
        unmarked = np.concatenate((*self._unmarked, np.zeros(0, np.float32)))
        count = len(unmarked) if self._ended else min(len(unmarked), len(self._ready_marks))
        mark = self._ready_marks[:count]
        marked = unmarked[:count].copy()
        marked[: len(mark)] += mark  # rounding of lengths between two rates may leave the last sample without
        self._unmarked, self._ready_marks = [unmarked[count:]], self._ready_marks[count:]
        return marked

    def _observe(self, mean_square: float) -> Level:
        self._meter.observe(mean_square / self._full_scale)
        self._square_sum += mean_square
        self._newest_level = self._level.observe(mean_square)
        return self._newest_level

    def _observe_nothing(self, mean_square: float) -> Level:
        return self._newest_level

    def _take_marks(self) -> Pcm:
        blocks = np.concatenate((*self._marks, np.zeros(0, np.float32)))
        self._marks = []
        left = self._framer.num_samples - self._num_mark_samples  # the padding of the end is dropped
        blocks = blocks[:left]
        self._num_mark_samples += len(blocks)
        silent = min(self._lead_left, len(blocks))
        self._lead_left -= silent
        return self._from_network.push(blocks[silent:], last=self._ended)
