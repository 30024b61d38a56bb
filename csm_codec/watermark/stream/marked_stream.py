"""One stream in the embedder: frames its audio, collects the mark, and adds it to the samples. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from csm_bundle.errors import CodecError
from csm_codec.resample import Pcm
from csm_codec.watermark.networks.hparams import Hparams
from csm_codec.watermark.stream.block_resample import BlockResampler
from csm_codec.watermark.stream.coverage import Coverage, CoverageMeter
from csm_codec.watermark.stream.framing import Framer
from csm_codec.watermark.stream.level import Level, LevelEstimate
from csm_codec.watermark.stream.look_ahead import LookAhead
from csm_codec.watermark.stream.progress import ClipProgress, Grid, MarkPoint, WrongPointError

FRAMES_TOGETHER = 2  # the networks on a CPU compute outputs in pairs (cpu/winograd.py), counted from the first frame


@dataclass(frozen=True, slots=True)
class Step:
    """One row's part in a step of the batch."""

    window: Pcm  # (n_fft,)
    frame: int  # index since the start of the stream
    num_frames: int  # framing.UNKNOWN until the stream has ended
    output: int | None  # the frame whose mark comes out
    symbols: tuple[int, ...]
    observe: Callable[[float], Level]  # takes the frame's mean square over all bins, returns the level to use
    is_end: bool = False  # one of the steps that flush the stream at its end


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream starts that resumes an earlier one. Frames and blocks count from the earlier one's start."""

    num_samples: int  # before the place, at the stream's rate
    block: int  # first block of the resampler to the networks' rate
    position: int  # of that block's first sample, from the centre of frame 0
    frame: int  # first STFT frame
    mark_block: int  # first block of the resampler back
    marks_unused: int  # samples of the mark before that block
    first_sample: int  # from here on, at the stream's rate, the marked audio equals that of the earlier stream


AT_THE_START = Place(0, 0, 0, 0, 0, 0, 0)


class MarkedStream:
    """Takes audio at the stream's rate, and returns it with the mark, later."""

    def __init__(
        self,
        hparams: Hparams,
        sample_rate_hz: int,
        symbols: tuple[int, ...],
        level: LevelEstimate,
        look_ahead: LookAhead,
        lag: int,
        grid: Grid,
        before: ClipProgress,
        point: MarkPoint | None,
    ) -> None:
        """symbols: from the clip's first frame on. lag: the networks' own look-ahead, in frames. before: progress of
        the clip after the earlier streams, which grid and level continue too. point: of an earlier stream with the same
        audio, which this one resumes. Raises WrongPointError for a point at which no stream can be resumed.
        """
        self._to_network = BlockResampler(sample_rate_hz, hparams.sample_rate_hz)
        self._from_network = BlockResampler(hparams.sample_rate_hz, sample_rate_hz)
        self._grid, self._before, self._hop, self._lag = grid, before, hparams.hop, lag
        place = AT_THE_START if point is None else self._place(point.num_samples)
        if place is None:
            raise WrongPointError(f"No stream can be continued after {point and point.num_samples} samples.")
        self.place = place
        self.next_point: MarkPoint | None = None  # the newest point, until the caller takes it
        self._pending: deque[Place] = deque()  # places of points whose frame has not been observed yet
        self._to_network.begin_at(place.block)
        self._from_network.begin_at(place.mark_block)
        self._framer = Framer(hparams.hop, place.position, place.frame)
        self._num_samples = place.num_samples  # at the stream's rate
        start = point or MarkPoint(0, before.square_sum, before.hops, 0.0, 0, before)
        self._square_sum, self._level_sum = start.square_sum, start.level_sum
        self._level_frames = start.level_frames
        self._meter = CoverageMeter(before.audible_frames, start.audible_frames)
        if point is None:
            self._framer.push(np.zeros(grid.lead, np.float32))
            self._marks_unused = grid.lead  # samples of the mark to drop: those of the silence before the audio
            self._unmarked_unused = self._unsure = 0
        else:
            self._marks_unused = place.marks_unused
            first_sample = place.mark_block * self._from_network.block_given  # the first one with a mark
            self._unmarked_unused = first_sample - place.num_samples
            self._unsure = place.first_sample - first_sample  # samples whose mark differs from the earlier stream's
        self._silence = np.zeros(hparams.n_fft, np.float32)
        self._symbols = Grid(grid.first_frame + place.frame, 0).symbols(symbols)
        self._level, self._look_ahead = level, look_ahead
        self._full_scale = hparams.n_fft * 3 / 8  # mean square over the bins of a signal whose mean square is 1
        self._newest_level = Level(0.0, 0.0)
        self._next_frame = self._next_output = 0
        self._unmarked: list[Pcm] = []  # at the stream's rate
        self._marks: list[Pcm] = []  # at the network's rate
        self._num_mark_samples = place.frame * self._hop
        self._ready_marks: Pcm = np.zeros(0, np.float32)  # at the stream's rate
        self._ended = False

    @property
    def coverage(self) -> Coverage:
        """The coverage of the clip so far, earlier streams included."""
        return self._meter.coverage(int(self._hops))

    @property
    def progress(self) -> ClipProgress:
        """The progress of the clip, after the end of this stream."""
        return ClipProgress(
            position=self._grid.first_frame * self._hop + self._framer.num_samples,
            hops=self._before.hops + self._hops,
            square_sum=self._before.square_sum + self._square_sum,
            audible_frames=self._meter.audible_frames(int(self._hops)),
        )

    @property
    def _hops(self) -> float:
        """Hops of audio received."""
        return (self._framer.num_samples - self._grid.lead) / self._hop

    def offer_point(self) -> None:
        """Makes a point at the current sample, if a stream can be resumed there. It becomes `next_point` some frames
        later.
        """
        if (place := self._place(self._num_samples)) is not None:
            self._pending.append(place)

    def place_of(self, point: MarkPoint) -> Place:
        """Where a stream starts that continues this one there. point: one that this stream has made"""
        place = self._place(point.num_samples)
        assert place is not None
        return place

    def push(self, pcm: Pcm, *, last: bool) -> None:
        self._num_samples += len(pcm)
        unused = min(self._unmarked_unused, len(pcm))
        self._unmarked_unused -= unused
        self._unmarked.append(pcm[unused:])
        self._framer.push(self._to_network.push(pcm, last=last))
        if last:
            self._ended = True
            self._framer.finish()

    def next_step(self) -> Step | None:
        """What the next step needs of this stream; None until more audio comes."""
        start = self.place.frame
        frame, num_frames, look_ahead = self._next_frame, self._framer.num_frames - start, self._lag
        if frame < num_frames:
            window = self._framer.take()
            has_audio = (start + frame + 1) * self._hop > self._grid.lead
            observe = self._observe if has_audio else self._observe_nothing
            look_ahead = min(self._lag, self._look_ahead.at(start + frame))
        elif frame < num_frames + self._lag:
            window, observe = self._silence, self._observe_nothing  # the steps that push the last marks out
        else:
            return None
        if window is None:
            return None
        self._note_point(start + frame)
        self._next_frame += 1
        # None while the look-ahead grows, and at the end where it is larger than it was before.
        output = self._next_output if frame - look_ahead == self._next_output else None
        self._next_output += output is not None
        in_audio = (start + frame + 1) * self._hop <= self._grid.lead + self._to_network.ready(self._num_samples)
        return Step(window, frame, num_frames, output, self._symbols, observe, is_end=not in_audio)

    def add_mark(self, block: Pcm) -> None:
        """The next hop of the mark. Raises CodecError if it is not finite."""
        if not np.isfinite(block).all():
            raise CodecError("The watermark is not finite.")
        self._marks.append(block)

    def take_marked(self) -> Pcm:
        """The samples with a complete mark."""
        marks = self._take_marks()
        self._ready_marks = np.concatenate((self._ready_marks, marks))
        unmarked = np.concatenate((*self._unmarked, np.zeros(0, np.float32)))
        count = len(unmarked) if self._ended else len(self._ready_marks)  # a mark never comes before its samples
        mark = self._ready_marks[:count]
        marked = unmarked[:count].copy()
        marked[: len(mark)] += mark  # rounding of lengths between two rates may leave the last sample without
        self._unmarked, self._ready_marks = [unmarked[count:]], self._ready_marks[count:]
        unsure = min(self._unsure, count)
        self._unsure -= unsure
        return marked[unsure:]

    def _place(self, num_samples: int) -> Place | None:
        """None where the resampler has no block boundary."""
        there, back = self._to_network, self._from_network
        block, rest = divmod(num_samples, there.block)
        if rest:
            return None
        lead, hop = self._grid.lead, self._hop
        exact = there.first_exact_block(num_samples) * there.block_given  # the first sample of real audio alone
        frame = -(-(lead + exact) // hop) + 1  # its window begins a hop before its centre
        frame += frame % FRAMES_TOGETHER
        marks = frame * hop - lead  # where the marks of a stream begin that has this as its first frame
        mark_block = -(-marks // back.block)
        first_exact = back.first_exact_block((frame + self._lag) * hop - lead)  # the networks look `lag` frames back
        return Place(
            num_samples=num_samples,
            block=block,
            position=lead + block * there.block_given,
            frame=frame,
            mark_block=mark_block,
            marks_unused=mark_block * back.block - marks,
            first_sample=max(mark_block, first_exact) * back.block_given,
        )

    def _note_point(self, frame: int) -> None:
        """Makes the point that waits for this frame, before the frame is observed."""
        while self._pending and self._pending[0].frame <= frame:
            place = self._pending.popleft()
            if place.frame == frame and not self._ended:
                self.next_point = MarkPoint(
                    num_samples=place.num_samples,
                    level_sum=self._level_sum,
                    level_frames=self._level_frames,
                    square_sum=self._square_sum,
                    audible_frames=self._meter.observed,
                    before=self._before,
                )

    def _observe(self, mean_square: float) -> Level:
        self._meter.observe(mean_square / self._full_scale)
        self._square_sum += mean_square
        self._level_sum += mean_square
        self._level_frames += 1
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
        unused = min(self._marks_unused, len(blocks))
        self._marks_unused -= unused
        return self._from_network.push(blocks[unused:], last=self._ended)
