"""Which frames of a stream count in its level."""

from __future__ import annotations

import numpy as np
import pytest

from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.level import Level
from csm_codec.watermark.stream.look_ahead import FULL
from csm_codec.watermark.stream.marked_stream import MarkedStream
from csm_codec.watermark.stream.progress import START, Grid

HOP = 128  # of the shared tiny network
SYMBOLS = frame_symbols(bytes([1, 200, 33, 4, 250]))


class _Observed:
    """A level that keeps what it was given."""

    def __init__(self) -> None:
        self.mean_squares: list[float] = []

    def observe(self, mean_square: float) -> Level:
        self.mean_squares.append(mean_square)
        return Level(1.0, 1.0)


@pytest.mark.parametrize(("lead", "silent"), [(0, 0), (HOP - 1, 0), (HOP, 1), (HOP + 1, 1), (2 * HOP, 2)])
def test_frames_of_the_silence_before_the_audio_do_not_count(
    silentcipher: SilentCipher, lead: int, silent: int
) -> None:
    """A frame reaches a hop to both sides of its centre. That of the first one lies `lead` samples before the audio."""
    assert silentcipher.hparams.hop == HOP
    level = _Observed()
    stream = MarkedStream(silentcipher.hparams, 24_000, SYMBOLS, level, FULL, 3, Grid(0, lead), START, None)
    stream.push(np.ones(10 * HOP, np.float32), last=False)
    windows = []
    while (step := stream.next_step()) is not None:
        windows.append(step.window)
        step.observe(float(len(windows)))  # in place of the mean square
    # The first sample of a window counts nothing: its weight is 0.
    assert [bool(window[1:].any()) for window in windows] == [False] * silent + [True] * (len(windows) - silent)
    assert level.mean_squares == list(range(silent + 1, len(windows) + 1))
