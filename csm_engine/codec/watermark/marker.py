"""Embeds the watermark into streams of audio, many at once: as if each whole clip had been done in one go.

Audio is brought to the network's rate, framed, marked in its spectrum, and only the difference goes back to the
audio's own rate and is added: the signal itself is never resampled. What comes out lags by `latency_samples`; the last
call of a stream brings the rest, and every sample comes out. Lengths, chunk borders and neighbours change nothing.

Rows are as in mimi_decoder.py: a lane is a batch of fixed width. It knows no codec and no keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from csm_engine.codec.resample import RESAMPLER_LAG_S, Pcm
from csm_engine.codec.watermark.level import LevelEstimate
from csm_engine.codec.watermark.marked_stream import MarkedStream
from csm_engine.codec.watermark.silentcipher import SilentCipher
from csm_engine.codec.watermark.spectral_marker import SpectralMarker


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one stream's audio, mono at the marker's rate."""

    pcm: Pcm
    last: bool = False


class Marker:
    """`num_lanes` lanes of `lane_width` rows. A row must be joined before its stream's first chunk."""

    def __init__(self, silentcipher: SilentCipher, *, sample_rate_hz: int, num_lanes: int, lane_width: int) -> None:
        self._silentcipher = silentcipher
        self._sample_rate_hz = sample_rate_hz
        self._lane_width = lane_width
        self._lanes = [_Lane(silentcipher, lane_width) for _ in range(num_lanes)]

    @property
    def n_fft(self) -> int:
        """Samples per window, at the network's rate."""
        return self._silentcipher.hparams.n_fft

    @property
    def latency_samples(self) -> int:
        """How far the output may lag, at most."""
        hparams = self._silentcipher.hparams
        hops = self._lanes[0].spectral.lag + 2
        lag_s = hops * hparams.hop / hparams.sample_rate_hz
        if hparams.sample_rate_hz != self._sample_rate_hz:
            lag_s += 2 * RESAMPLER_LAG_S
        return math.ceil(lag_s * self._sample_rate_hz)

    def join(self, lane: int, row: int, symbols: tuple[int, ...], level: LevelEstimate) -> MarkedStream:
        """Starts a stream. symbols: one period of the message, as payload.frame_symbols gives it."""
        marking = self._lanes[lane]
        lag = marking.spectral.lag
        stream = MarkedStream(self._silentcipher.hparams, self._sample_rate_hz, symbols, level, lag)
        marking.streams[row] = stream
        return stream

    def push(self, lane: int, chunks: Mapping[int, Chunk]) -> dict[int, Pcm]:
        """Takes a chunk for some rows of a lane, gives what is ready of each, perhaps nothing.

        Raises WatermarkError if a row's mark is not finite: nothing of that tick may be sent then.
        """
        marking = self._lanes[lane]
        streams = {row: marking.streams[row] for row in chunks}
        for row, chunk in chunks.items():
            streams[row].push(chunk.pcm, last=chunk.last)
        while steps := {row: step for row, stream in streams.items() if (step := stream.next_step()) is not None}:
            blocks = marking.spectral.step(steps)
            for row, block in blocks.items():
                streams[row].add_mark(block)
        return {row: stream.take_marked() for row, stream in streams.items()}

    def rebuild(self, lane: int) -> None:
        """Fresh states for a lane after a failed step; what its streams had is lost."""
        self._lanes[lane] = _Lane(self._silentcipher, self._lane_width)


class _Lane:
    """The batch and the streams in its rows."""

    def __init__(self, silentcipher: SilentCipher, width: int) -> None:
        self.spectral = SpectralMarker(silentcipher, width)
        self.streams: dict[int, MarkedStream] = {}


def mark_clip(
    silentcipher: SilentCipher, pcm: Pcm, sample_rate_hz: int, symbols: tuple[int, ...], level: LevelEstimate
) -> Pcm:
    """Marks a finished clip; its length stays."""
    marker = Marker(silentcipher, sample_rate_hz=sample_rate_hz, num_lanes=1, lane_width=1)
    marker.join(0, 0, symbols, level)
    return marker.push(0, {0: Chunk(pcm, last=True)})[0]
