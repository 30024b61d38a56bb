"""Changes the speed of speech at the same pitch, piece by piece. It knows no codec and no watermark.

It uses FFmpeg's `atempo` filter (WSOLA with windows of 43 ms at 24 kHz) through PyAV. PyAV is imported with the first
stream of another speed, because that takes 0.1 s or more.
"""

from __future__ import annotations

import math

import numpy as np

from csm_bundle.errors import CodecError
from csm_codec.resample import Pcm

SLOWEST, FASTEST = 0.25, 4.0
_ONE_FILTER = (0.5, 2.0)  # range of one filter, beyond which it drops or repeats sound; two in series cover the rest
_BLOCK_S = 0.02  # passed to the filter at once, always the same, because its output depends on it
_HELD_S = 0.25  # most input that is held back, with a margin: 0.2 s was measured, at speed 4
_MAX_TAIL_S = 2.0  # of silence pushed at the end


class Stretcher:
    """Returns exactly ceil(input samples / speed) samples, without a delay."""

    def __init__(self, speed: float, sample_rate_hz: int) -> None:
        """speed: SLOWEST to FASTEST; 2 is twice as fast and half as long"""
        from av.filter import Graph

        self._speed, self._sample_rate_hz = speed, sample_rate_hz
        self._block = round(_BLOCK_S * sample_rate_hz)
        self._waiting: Pcm = np.zeros(0, np.float32)  # less than a block
        self._ready: Pcm = np.zeros(0, np.float32)  # filter output that is not due yet
        self._received = self._filtered = self._returned = 0  # samples: input, passed to the filter, output
        num_filters = 1 if _ONE_FILTER[0] <= speed <= _ONE_FILTER[1] else 2
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add(
            "abuffer",
            sample_rate=str(sample_rate_hz),
            sample_fmt="flt",
            channel_layout="mono",
            time_base=f"1/{sample_rate_hz}",
        )
        filters = [self._graph.add("atempo", repr(speed ** (1 / num_filters))) for _ in range(num_filters)]
        self._graph.link_nodes(source, *filters, self._graph.add("abuffersink")).configure()

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """The samples that are ready, possibly none. The last call returns the rest."""
        self._received += len(pcm)
        due = math.ceil(self._received / self._speed)
        self._waiting = np.concatenate((self._waiting, pcm))
        self._feed()
        if last:  # silence pushes the rest out of the filter
            for _ in range(math.ceil(_MAX_TAIL_S / _BLOCK_S)):
                if self._returned + len(self._ready) >= due:
                    break
                self._waiting = np.concatenate((self._waiting, np.zeros(self._block, np.float32)))
                self._feed()
            if self._returned + len(self._ready) < due:
                raise CodecError("Speech could not be brought to another speed.")
        num_due = due - self._returned
        ready, self._ready = self._ready[:num_due], self._ready[num_due:]
        self._returned += len(ready)
        return ready

    def _feed(self) -> None:
        """Passes whole blocks to the filter."""
        while len(self._waiting) >= self._block:
            block, self._waiting = self._waiting[: self._block], self._waiting[self._block :]
            self._ready = np.concatenate((self._ready, self._filter(block)))

    def _filter(self, block: Pcm) -> Pcm:
        """The filter's output for one block."""
        from av import AudioFrame
        from av.error import BlockingIOError

        frame = AudioFrame(format="flt", layout="mono", samples=len(block))
        frame.sample_rate, frame.pts = self._sample_rate_hz, self._filtered
        frame.planes[0].update(block.tobytes())
        self._filtered += len(block)
        self._graph.push(frame)
        pieces: list[Pcm] = []
        while True:
            try:
                output = self._graph.pull()
            except BlockingIOError:  # it needs more input
                return np.concatenate((*pieces, np.zeros(0, np.float32)))
            assert isinstance(output, AudioFrame)
            pieces.append(output.to_ndarray()[0].copy())


def held_samples(sample_rate_hz: int) -> int:
    """Most samples of the input that are held back, at any speed."""
    return math.ceil(_HELD_S * sample_rate_hz)
