"""Where a clip goes on: the grid of STFT frames, the message, the level."""

from __future__ import annotations

import numpy as np
import pytest

from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.payload import PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.progress import START, ClipProgress, grid_at

SYMBOLS = frame_symbols(bytes([1, 200, 33, 4, 250]))


@pytest.mark.parametrize("position", [0, 1, 99, 100, 101, 2099, 2100, 12_345])
@pytest.mark.parametrize("least_lead", [0, 1, 60, 99])
def test_frames_lie_where_the_clip_has_them(position: int, least_lead: int) -> None:
    grid = grid_at(position, 100, least_lead)
    assert grid.first_frame * 100 + grid.lead == position
    assert least_lead <= grid.lead < least_lead + 100
    on_air = [SYMBOLS[(grid.first_frame + frame) % PERIOD] for frame in range(PERIOD)]
    assert list(grid.symbols(SYMBOLS)) == on_air


def _piece(
    silentcipher: SilentCipher, pcm: np.ndarray, before: ClipProgress
) -> tuple[np.ndarray, ClipProgress, Coverage]:
    embedder = Embedder(silentcipher, sample_rate_hz=24000, num_slots=1, lane_width=1)
    stream = embedder.join(0, SYMBOLS, RunningLevel(embedder.n_fft, before), before)
    return embedder.push({0: Chunk(pcm, last=True)})[0], stream.progress, stream.coverage


def test_pieces_of_a_clip_add_up(silentcipher: SilentCipher) -> None:
    """Ten frames of 128 samples each; 21 are a message."""
    pcm = (0.1 * np.random.default_rng(0).standard_normal(40 * 128)).astype(np.float32)
    progress, coverages, marked = START, [], []
    for piece in np.split(pcm, 4):
        samples, progress, coverage = _piece(silentcipher, piece, progress)
        coverages.append(coverage)
        marked.append(samples)
    assert progress.position == len(pcm) and progress.hops == 40 and progress.audible_frames == 40
    assert coverages == [Coverage.PARTIAL, Coverage.PARTIAL, Coverage.FULL, Coverage.FULL]
    whole, at_once, _ = _piece(silentcipher, pcm, START)
    assert progress.square_sum == pytest.approx(at_once.square_sum, rel=0.1)
    # Away from the edges of the pieces, by all that the networks see, the mark is nearly that of the whole clip.
    mark, expected = np.concatenate(marked) - pcm, whole - pcm
    assert np.std(mark) == pytest.approx(np.std(expected), rel=0.2)
