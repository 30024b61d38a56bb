"""A stream that continues another at a point: the same samples bit for bit from where it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.look_ahead import ADAPTIVE, FULL, LookAhead
from csm_codec.watermark.stream.progress import START, ClipProgress, MarkPoint
from tests.support.tiny.silentcipher import write_tiny_silentcipher

SYMBOLS = frame_symbols(bytes([1, 200, 33, 4, 250]))
PIECE = 1920
PIECES = {24_000: 9, 44_100: 6, 16_000: 25}  # whole ones: enough for two blocks and all growth of the look-ahead
LATER = ClipProgress(position=12_345, hops=96.4453125, square_sum=17.3, audible_frames=90)


@pytest.fixture(scope="session", params=[24_000, 44_100, 16_000])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SilentCipher:
    """At the stream's rate, at one that ends blocks with every piece, and at one that does so every eleventh piece."""
    folder = tmp_path_factory.mktemp("silentcipher")
    write_tiny_silentcipher(folder, 0, n_fft=512, sample_rate_hz=request.param)
    return load_silentcipher(folder)


@pytest.fixture(scope="session")
def pcm(network: SilentCipher) -> np.ndarray:
    """Whole pieces but for the last."""
    length = PIECES[network.hparams.sample_rate_hz] * PIECE + 321
    loudness = 0.02 + 0.1 * np.abs(np.sin(np.arange(length) / 7000))
    return (loudness * np.random.default_rng(3).standard_normal(length)).astype(np.float32)


def _run(
    network: SilentCipher, pcm: np.ndarray, look_ahead: LookAhead, lane_width: int, before: ClipProgress, first: int,
    point: MarkPoint | None = None, piece: int = PIECE,
) -> tuple[np.ndarray, list[MarkPoint], ClipProgress, int]:  # fmt: skip
    """The samples from sample `first` on, the points, and the first sample."""
    embedder = Embedder(
        network, sample_rate_hz=24_000, num_slots=lane_width, lane_width=lane_width, look_ahead=look_ahead,
        first_samples=PIECE,
    )  # fmt: skip
    level = RunningLevel(embedder.n_fft, before)
    if point is not None:
        level = RunningLevel(embedder.n_fft, replace(before, square_sum=point.level_sum, hops=point.level_frames))
    stream = embedder.join(0, SYMBOLS, level, before, point)
    points, marked = [], []
    for at in range(first, len(pcm), piece):
        stream.offer_point()
        marked.append(embedder.push({0: Chunk(pcm[at : at + piece], last=at + piece >= len(pcm))})[0])
        if stream.next_point is not None:
            points.append(stream.next_point)
            stream.next_point = None
    return np.concatenate(marked), points, stream.progress, stream.place.first_sample


# A lane has no blocks, so one rate says all of it; the short look-ahead says it of the blocks of all rates.
KINDS = {"full": (FULL, 1), "adaptive": (ADAPTIVE, 1), "adaptive-lane": (ADAPTIVE, 2), "short": (LookAhead(1, 1, 3), 1)}
DEFAULT = {(24_000, "adaptive-lane"), *((rate_hz, "short") for rate_hz in PIECES)}


@pytest.mark.parametrize(
    ("network", "look_ahead", "lane_width"),
    [
        pytest.param(
            rate_hz, *KINDS[kind], id=f"{rate_hz}-{kind}", marks=() if (rate_hz, kind) in DEFAULT else pytest.mark.slow
        )
        for rate_hz in PIECES
        for kind in KINDS
    ],
    indirect=["network"],
)
@pytest.mark.parametrize("before", [pytest.param(START, marks=pytest.mark.slow), LATER], ids=["begins", "continues"])
def test_continues_bit_for_bit(
    network: SilentCipher, pcm: np.ndarray, look_ahead: LookAhead, lane_width: int, before: ClipProgress
) -> None:
    whole, points, progress, _ = _run(network, pcm, look_ahead, lane_width, before, 0)
    assert len(whole) == len(pcm) and len(points) >= 2
    grown_s = 6 * look_ahead.frames_per_growth * network.hparams.hop / network.hparams.sample_rate_hz
    assert points[0].num_samples < points[-1].num_samples > 24_000 * grown_s
    for point in (points[0], points[-1]):
        rest, later, end, first_sample = _run(network, pcm, look_ahead, lane_width, before, point.num_samples, point)
        assert point.num_samples < first_sample < point.num_samples + 2 * PIECE
        assert np.array_equal(rest, whole[first_sample:])
        assert end == progress
        assert later == [other for other in points if other.num_samples >= point.num_samples]
    assert progress.audible_frames > before.audible_frames


@pytest.mark.parametrize(("network", "rest"), [(44_100, 40), (22_400, 8)], indirect=["network"])
def test_the_end_is_the_same_where_its_length_is_halfway_between_two(network: SilentCipher, rest: int) -> None:
    """Half a sample is rounded to an even length: that of the whole stream, not that of its part after the point.

    At 44.1 kHz this is the length at the networks' rate, where 80 samples become 147; at 22.4 kHz it is the length of
    the mark, where 70 samples become 75. Blocks of odd number have odd positions there.
    """
    piece = 1200  # 15 blocks of 80 samples, 16 of 75
    pcm = (0.1 * np.random.default_rng(4).standard_normal(12 * piece + rest)).astype(np.float32)
    look_ahead = LookAhead(1, 1, 3)
    whole, points, progress, _ = _run(network, pcm, look_ahead, 1, START, 0, piece=piece)
    assert len(whole) == len(pcm)
    before_odd_blocks = 0
    for point in points:
        embedder = Embedder(network, sample_rate_hz=24_000, num_slots=1, lane_width=1, first_samples=PIECE)
        place = embedder.join(0, SYMBOLS, RunningLevel(embedder.n_fft), START, point).place
        before_odd_blocks += place.block % 2 if network.hparams.sample_rate_hz == 44_100 else place.mark_block % 2
        continued, _, end, first_sample = _run(
            network, pcm, look_ahead, 1, START, point.num_samples, point, piece=piece
        )
        assert np.array_equal(continued, whole[first_sample:])
        assert end == progress
    assert before_odd_blocks >= 2


def test_point_that_is_no_block_boundary_is_refused(network: SilentCipher) -> None:
    if network.hparams.sample_rate_hz == 24_000:
        pytest.skip("there every sample is a boundary")
    embedder = Embedder(network, sample_rate_hz=24_000, num_slots=1, lane_width=1)
    with pytest.raises(ValueError, match="after 1 samples"):
        embedder.join(0, SYMBOLS, RunningLevel(512), START, MarkPoint(1, 0.0, 0.0, 0.0, 0, START))
