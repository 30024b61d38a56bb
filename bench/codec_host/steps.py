"""`Codec.step` by itself, over an idle device."""

from __future__ import annotations

import time

import numpy as np

from bench.codec_host.idle_device import Parts
from bench.codec_host.sampled import sampled
from csm_codec.stream import Failed
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey

KEY = WatermarkKey("bench", b"bench")
GROUPS = 8  # streams open in so many steps, so that their STFT frames do not all fall into the same ones
WARM_UP_STEPS = 28  # 2.2 s of audio: the look-ahead has grown to its full length
TURN_STEPS = 8


class Steps:
    """Steps of `streams` streams, which are past their start."""

    def __init__(self, parts: Parts, streams: int) -> None:
        self._codec = parts.codec(streams, Keyring(KEY, {KEY.id: KEY}))
        self._codes = np.zeros((1, parts.mimi.identity.codebook_count), np.int64)
        self._count, self._streams = streams, []
        for group in range(GROUPS):
            self._streams += [self._codec.open() for _ in range(group, streams, GROUPS)]
            self._step()
        for _ in range(WARM_UP_STEPS):
            self._step()

    def turn(self) -> float:
        """CPU milliseconds for a stream and frame."""
        begun_s = time.process_time()
        for _ in range(TURN_STEPS):
            self._step()
        return 1000 * (time.process_time() - begun_s) / (TURN_STEPS * self._count)

    def shares(self, turns: int, least: float) -> dict[str, float]:
        """Of the CPU time, by module, the largest first. least: smaller ones are left out"""
        with sampled("csm_") as counts:
            for _ in range(turns):
                self.turn()
        shares = {module: round(count / counts.total(), 3) for module, count in counts.most_common()}
        return {module: share for module, share in shares.items() if share >= least}

    def _step(self) -> None:
        for stream in self._streams:
            self._codec.push(stream, self._codes)
        for output in self._codec.step():
            if isinstance(output, Failed):
                raise output.error


def samples_after(parts: Parts, frames: int) -> list[int]:
    """How many samples of a stream have come after 0 to `frames` frames. They are the same for every stream."""
    codec = parts.codec(2, Keyring(KEY, {KEY.id: KEY}))
    stream, counts = codec.open(), [0]
    for _ in range(frames):
        codec.push(stream, np.zeros((1, parts.mimi.identity.codebook_count), np.int64))
        codec.step()
        counts.append(stream.num_samples)
    return counts
