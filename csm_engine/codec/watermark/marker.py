"""Embeds the watermark into streams of audio, many at once: as if each whole clip had been done in one go.

Audio is brought to the network's rate, framed, marked in its spectrum, and only the difference goes back to the
audio's own rate and is added: the signal itself is never resampled. What comes out lags, less at the start than later
if so wished (look_ahead.py), by at most `latency_samples`; the last call of a stream brings the rest, and every sample
comes out. Lengths, chunk borders and neighbours change nothing.

Streams sit in numbered seats, some of which make a lane: a batch of fixed width, so that the arithmetic of a stream
never depends on its neighbours, bit for bit. Width costs time here, used or not: one seat a lane is best on a CPU, all
on a GPU. It knows no codec and no keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from csm_engine.codec.resample import RESAMPLER_LAG_S, Pcm
from csm_engine.codec.watermark.level import LevelEstimate
from csm_engine.codec.watermark.look_ahead import FULL, LookAhead
from csm_engine.codec.watermark.marked_stream import MarkedStream
from csm_engine.codec.watermark.silentcipher import SilentCipher
from csm_engine.codec.watermark.spectral_marker import SpectralMarker


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one stream's audio, mono at the marker's rate."""

    pcm: Pcm
    last: bool = False


class Marker:
    """`num_seats` seats, `lane_width` to a lane. A seat must be joined before its stream's first chunk."""

    def __init__(
        self,
        silentcipher: SilentCipher,
        *,
        sample_rate_hz: int,
        num_seats: int,
        lane_width: int,
        look_ahead: LookAhead = FULL,
    ) -> None:
        """num_seats: a multiple of lane_width."""
        self._silentcipher = silentcipher
        self._sample_rate_hz = sample_rate_hz
        self._lane_width = lane_width
        self._look_ahead = look_ahead
        self._lanes = [SpectralMarker(silentcipher, lane_width) for _ in range(num_seats // lane_width)]
        self._streams: dict[int, MarkedStream] = {}

    @property
    def n_fft(self) -> int:
        """Samples per window, at the network's rate."""
        return self._silentcipher.hparams.n_fft

    @property
    def latency_samples(self) -> int:
        """How far the output may lag, at most."""
        hparams = self._silentcipher.hparams
        hops = min(self._lanes[0].lag, self._look_ahead.most) + 2
        lag_s = hops * hparams.hop / hparams.sample_rate_hz
        if hparams.sample_rate_hz != self._sample_rate_hz:
            lag_s += 2 * RESAMPLER_LAG_S
        return math.ceil(lag_s * self._sample_rate_hz)

    def join(self, seat: int, symbols: tuple[int, ...], level: LevelEstimate) -> MarkedStream:
        """Starts a stream, in place of what sat there. symbols: of one period, as payload.frame_symbols gives them."""
        hparams, lag = self._silentcipher.hparams, self._lanes[0].lag
        stream = MarkedStream(hparams, self._sample_rate_hz, symbols, level, self._look_ahead, lag)
        self._streams[seat] = stream
        return stream

    def push(self, chunks: Mapping[int, Chunk]) -> dict[int, Pcm]:
        """Takes a chunk for some seats, gives what is ready of each, perhaps nothing.

        Raises WatermarkError if a mark is not finite: nothing of these streams may be sent then.
        """
        for seat, chunk in chunks.items():
            self._streams[seat].push(chunk.pcm, last=chunk.last)
        for lane in {seat // self._lane_width for seat in chunks}:
            self._run_lane(lane, [seat for seat in chunks if seat // self._lane_width == lane])
        return {seat: self._streams[seat].take_marked() for seat in chunks}

    def rebuild(self, seats: Iterable[int]) -> None:
        """Fresh states for the lanes of these seats after a failed step; what was in the lanes is lost."""
        for lane in {seat // self._lane_width for seat in seats}:
            self._lanes[lane] = SpectralMarker(self._silentcipher, self._lane_width)

    def _run_lane(self, lane: int, seats: Sequence[int]) -> None:
        streams = {seat % self._lane_width: self._streams[seat] for seat in seats}
        while steps := {row: step for row, stream in streams.items() if (step := stream.next_step()) is not None}:
            for row, block in self._lanes[lane].step(steps).items():
                streams[row].add_mark(block)


def mark_clip(
    silentcipher: SilentCipher, pcm: Pcm, sample_rate_hz: int, symbols: tuple[int, ...], level: LevelEstimate
) -> Pcm:
    """Marks a finished clip; its length stays."""
    marker = Marker(silentcipher, sample_rate_hz=sample_rate_hz, num_seats=1, lane_width=1)
    marker.join(0, symbols, level)
    return marker.push({0: Chunk(pcm, last=True)})[0]
