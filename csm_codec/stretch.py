"""Speech at another speed, its pitch kept, in pieces of any size. It knows no codec and no watermark.

FFmpeg's `atempo` (WSOLA: windows of 43 ms at 24 kHz, laid where they fit the sound before them best) does the work,
through PyAV. It is imported with the first stream of another speed, which takes a tenth of a second or more.
"""

from __future__ import annotations

import math

import numpy as np

from csm_bundle.errors import CodecError
from csm_codec.resample import Pcm

SLOWEST, FASTEST = 0.25, 4.0
_ONE_FILTER = (0.5, 2.0)  # speeds of one filter; beyond them it drops or repeats sound, and two make the way together
_BLOCK_S = 0.02  # given to the filter at once: what comes out depends on its blocks
_HELD_S = 0.25  # most that is held back, with a margin: 0.2 s was measured, at four times the speed
_MOST_TAIL_S = 2.0  # of silence at the end


class Stretcher:
    """Makes exactly ceil(samples in / speed) samples; the first in and the first out are of one moment."""

    def __init__(self, speed: float, sample_rate_hz: int) -> None:
        """speed: SLOWEST to FASTEST; 2 is twice as fast and half as long"""
        from av.filter import Graph

        self._speed, self._sample_rate_hz = speed, sample_rate_hz
        self._block = round(_BLOCK_S * sample_rate_hz)
        self._waiting: Pcm = np.zeros(0, np.float32)  # less than a block
        self._ready: Pcm = np.zeros(0, np.float32)  # made, and not yet due
        self._taken = self._given = self._made = 0
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
        """The samples that are ready, perhaps none. The last call brings the rest."""
        self._taken += len(pcm)
        due = math.ceil(self._taken / self._speed)
        self._waiting = np.concatenate((self._waiting, pcm))
        self._feed()
        if last:  # silence pushes the rest out; the sound of the silence itself is dropped
            for _ in range(math.ceil(_MOST_TAIL_S / _BLOCK_S)):
                if self._made + len(self._ready) >= due:
                    break
                self._waiting = np.concatenate((self._waiting, np.zeros(self._block, np.float32)))
                self._feed()
            if self._made + len(self._ready) < due:
                raise CodecError("Speech could not be brought to another speed.")
        ready, self._ready = self._ready[: due - self._made], self._ready[due - self._made :]
        self._made += len(ready)
        return ready

    def _feed(self) -> None:
        """Gives whole blocks to the filter."""
        while len(self._waiting) >= self._block:
            block, self._waiting = self._waiting[: self._block], self._waiting[self._block :]
            self._ready = np.concatenate((self._ready, self._made_of(block)))

    def _made_of(self, block: Pcm) -> Pcm:
        """What the filter gives for one block."""
        from av import AudioFrame
        from av.error import BlockingIOError

        frame = AudioFrame(format="flt", layout="mono", samples=len(block))
        frame.sample_rate, frame.pts = self._sample_rate_hz, self._given
        frame.planes[0].update(block.tobytes())
        self._given += len(block)
        self._graph.push(frame)
        pieces: list[Pcm] = []
        while True:
            try:
                made = self._graph.pull()
            except BlockingIOError:  # it wants more
                return np.concatenate((*pieces, np.zeros(0, np.float32)))
            assert isinstance(made, AudioFrame)
            pieces.append(made.to_ndarray()[0].copy())


def held_samples(sample_rate_hz: int) -> int:
    """Most samples of the input that are held back, at any speed."""
    return math.ceil(_HELD_S * sample_rate_hz)
