"""Which frames of a stream count in its level and its coverage; its last sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.level import Level, RunningLevel
from csm_codec.watermark.stream.look_ahead import FULL
from csm_codec.watermark.stream.marked_stream import MarkedStream
from csm_codec.watermark.stream.progress import START, Grid
from tests.support.tiny.silentcipher import write_tiny_silentcipher

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


@pytest.mark.parametrize(("dbfs", "is_audible"), [(-57, True), (-63, False)])
def test_frames_above_60_db_below_full_scale_are_audible(
    silentcipher: SilentCipher, dbfs: float, is_audible: bool
) -> None:
    embedder = Embedder(silentcipher, sample_rate_hz=24_000, num_slots=1, lane_width=1)
    stream = embedder.join(0, SYMBOLS, RunningLevel(embedder.n_fft))
    noise = np.random.default_rng(0).standard_normal(20 * HOP)
    embedder.push({0: Chunk((10 ** (dbfs / 20) * noise).astype(np.float32), last=True)})
    assert (stream.progress.audible_frames >= 19) is is_audible
    assert (stream.progress.audible_frames == 0) is not is_audible


def test_the_last_sample_is_kept_where_the_mark_is_a_sample_shorter(tmp_path: Path) -> None:
    """6005 samples are 4003 at the networks' rate, and those are 6004 samples of the mark."""
    write_tiny_silentcipher(tmp_path, 0, n_fft=256, sample_rate_hz=16_000)
    embedder = Embedder(load_silentcipher(tmp_path), sample_rate_hz=24_000, num_slots=1, lane_width=1)
    embedder.join(0, SYMBOLS, RunningLevel(embedder.n_fft))
    pcm = (0.1 * np.random.default_rng(1).standard_normal(6005)).astype(np.float32)
    marked = embedder.push({0: Chunk(pcm, last=True)})[0]
    assert len(marked) == 6005 and marked[-1] == pcm[-1]
    assert np.count_nonzero(marked != pcm) > 5900
