"""The streaming embedder against the package's own embedding of the whole clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csm_bundle.errors import CodecError
from csm_codec.watermark.embed.embedder import Chunk, Embedder, mark_clip
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.block_resample import block_resample
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.level import LevelEstimate, RunningLevel
from csm_codec.watermark.stream.look_ahead import ADAPTIVE, FRAMES_PER_GROWTH, FULL, LookAhead
from tests.support.silentcipher_oracle import FixedLevel, PackageOracle
from tests.support.tiny.silentcipher import write_tiny_silentcipher

PAYLOAD = bytes([1, 200, 33, 4, 250])
SYMBOLS = frame_symbols(PAYLOAD)
LANE_WIDTHS = pytest.mark.parametrize("lane_width", [1, 3], ids=["alone", "lane"])


def _marked_in_pieces(
    silentcipher: SilentCipher,
    pcm: np.ndarray,
    borders: list[int],
    level: LevelEstimate,
    look_ahead: LookAhead = FULL,
    lane_width: int = 1,
) -> np.ndarray:
    embedder = Embedder(
        silentcipher, sample_rate_hz=24000, num_slots=lane_width, lane_width=lane_width, look_ahead=look_ahead
    )
    embedder.join(0, SYMBOLS, level)
    pieces = np.split(pcm, borders)
    chunks = [Chunk(piece, last=index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    return np.concatenate([embedder.push({0: chunk})[0] for chunk in chunks])


@LANE_WIDTHS
@pytest.mark.parametrize("length", [6_465, 256 * 20, 256 * 20 - 1, 129, 128, 127, 5, 1])
def test_marks_as_the_package_does(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray, length: int, lane_width: int
) -> None:
    pcm = speechlike[:length]
    expected = oracle.embed(pcm, PAYLOAD)
    marked = _marked_in_pieces(silentcipher, pcm, [], oracle.level(pcm), lane_width=lane_width)
    assert np.abs(expected - pcm).max() > 1e-5
    assert np.abs(marked - expected).max() < 1e-6


@LANE_WIDTHS
@pytest.mark.parametrize("look_ahead", [FULL, ADAPTIVE, LookAhead(1, 1, 3)], ids=["full", "adaptive", "short"])
@pytest.mark.parametrize("length", [pytest.param(6_465, marks=pytest.mark.slow), 1500])
def test_chunked_equals_whole_bit_for_bit(
    silentcipher: SilentCipher, speechlike: np.ndarray, look_ahead: LookAhead, length: int, lane_width: int
) -> None:
    pcm = speechlike[:length]
    whole = _marked_in_pieces(silentcipher, pcm, [], RunningLevel(256), look_ahead, lane_width)
    assert len(whole) == length
    borders = sorted(np.random.default_rng(length).integers(0, length + 1, 25).tolist())
    marked = _marked_in_pieces(silentcipher, pcm, borders, RunningLevel(256), look_ahead, lane_width)
    assert np.array_equal(marked, whole)


def test_only_the_start_differs_from_the_full_look_ahead(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    """Bit for bit from the first frame on whose mark was made with all that the networks look ahead."""
    full = mark_clip(silentcipher, speechlike, 24000, SYMBOLS, RunningLevel(256))
    adaptive = _marked_in_pieces(silentcipher, speechlike, [], RunningLevel(256), ADAPTIVE)
    grown = 6 * FRAMES_PER_GROWTH - 5  # the first such frame; the one before came with the last frame that saw 5 ahead
    assert np.array_equal(adaptive[grown * 128 :], full[grown * 128 :])
    before = slice((grown - 1) * 128, grown * 128)
    assert not np.array_equal(adaptive[before], full[before])


@LANE_WIDTHS
@pytest.mark.parametrize("look_ahead", [pytest.param(FULL, marks=pytest.mark.slow), ADAPTIVE], ids=["full", "adaptive"])
def test_bits_of_a_row_do_not_depend_on_its_neighbours(
    silentcipher: SilentCipher, speechlike: np.ndarray, look_ahead: LookAhead, lane_width: int
) -> None:
    pcm = speechlike[:3000]  # frames until the look-ahead has grown, and five more

    def run(rows: dict[int, int]) -> dict[int, np.ndarray]:
        """rows: samples per push of each slot, which therefore end at different times."""
        embedder = Embedder(
            silentcipher, sample_rate_hz=24000, num_slots=3, lane_width=lane_width, look_ahead=look_ahead
        )
        heard: dict[int, list[np.ndarray]] = {row: [] for row in rows}
        position = dict.fromkeys(rows, 0)
        for row in rows:
            embedder.join(row, frame_symbols(bytes([row] * 5)), RunningLevel(256))
        while any(position[row] < len(pcm) for row in rows):
            chunks = {}
            for row, size in rows.items():
                start, end = position[row], min(position[row] + size, len(pcm))
                if start < end:
                    chunks[row] = Chunk(pcm[start:end] * np.float32((row + 1) / 3), last=end == len(pcm))
                    position[row] = end
            for row, made in embedder.push(chunks).items():
                heard[row].append(made)
        return {row: np.concatenate(parts) for row, parts in heard.items()}

    together = run({0: 960, 1: 350, 2: 2000})
    for row in range(3):
        alone = run({row: 960})[row]
        assert len(alone) == len(pcm)
        assert np.array_equal(together[row], alone)


@LANE_WIDTHS
def test_a_reused_row_starts_afresh(silentcipher: SilentCipher, speechlike: np.ndarray, lane_width: int) -> None:
    expected = _marked_in_pieces(silentcipher, speechlike, [], RunningLevel(256), lane_width=lane_width)
    embedder = Embedder(silentcipher, sample_rate_hz=24000, num_slots=3, lane_width=lane_width)
    embedder.join(0, SYMBOLS, RunningLevel(256))
    embedder.push({0: Chunk(speechlike[:3777])})  # left without an end
    embedder.join(0, SYMBOLS, RunningLevel(256))
    again = embedder.push({0: Chunk(speechlike, last=True)})[0]
    assert np.array_equal(again, expected)


@LANE_WIDTHS
def test_a_slot_recovers_after_a_mark_that_was_not_finite(
    silentcipher: SilentCipher, speechlike: np.ndarray, lane_width: int
) -> None:
    """A slot outside of the lane goes on as if nothing had been."""
    expected = _marked_in_pieces(silentcipher, speechlike, [], RunningLevel(256), lane_width=lane_width)
    embedder = Embedder(silentcipher, sample_rate_hz=24000, num_slots=6, lane_width=lane_width)
    for slot in (0, 5):
        embedder.join(slot, SYMBOLS, RunningLevel(256))
    begun = embedder.push({5: Chunk(speechlike[:4000])})[5]
    with pytest.raises(CodecError):
        embedder.push({0: Chunk(np.full(4000, np.nan, np.float32))})
    embedder.join(0, SYMBOLS, RunningLevel(256))
    assert np.array_equal(embedder.push({0: Chunk(speechlike, last=True)})[0], expected)
    rest = embedder.push({5: Chunk(speechlike[4000:], last=True)})[5]
    assert np.array_equal(np.concatenate((begun, rest)), expected)


@pytest.mark.parametrize(
    ("rate_hz", "look_ahead", "latency"),
    [(24000, FULL, 8 * 128), (24000, ADAPTIVE, 8 * 128), (24000, LookAhead(0, 2, 3), 5 * 128), (44100, FULL, 787)],
)
def test_output_lags_no_more_than_stated(
    tmp_path: Path, speechlike: np.ndarray, rate_hz: int, look_ahead: LookAhead, latency: int
) -> None:
    write_tiny_silentcipher(tmp_path, 0, n_fft=256, sample_rate_hz=rate_hz)
    embedder = Embedder(
        load_silentcipher(tmp_path), sample_rate_hz=24000, num_slots=1, lane_width=1, look_ahead=look_ahead
    )
    embedder.join(0, SYMBOLS, RunningLevel(256))
    came, pcm = 0, np.tile(speechlike, 2)
    for start in range(0, 9600, 120):
        came += len(embedder.push({0: Chunk(pcm[start : start + 120])})[0])
        assert start + 120 - came <= embedder.latency_samples
    assert embedder.latency_samples == latency
    if rate_hz == 24000:
        assert 9600 - came > latency - 128 - 120  # and the figure is no larger than it must be


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "held_back_ms"),
    [
        (24000, 1024, 38),  # the tiny: less than its two hops, 43 ms
        (44100, 4096, 54),  # the published transform: one hop is 46 ms, the resamplers take the rest
    ],
)
def test_the_first_codec_frame_gives_audio(
    tmp_path: Path, speechlike: np.ndarray, rate_hz: int, n_fft: int, held_back_ms: int
) -> None:
    write_tiny_silentcipher(tmp_path, 0, n_fft=n_fft, sample_rate_hz=rate_hz)
    embedder = Embedder(
        load_silentcipher(tmp_path),
        sample_rate_hz=24000,
        num_slots=1,
        lane_width=1,
        look_ahead=ADAPTIVE,
        first_samples=1920,
    )
    embedder.join(0, SYMBOLS, RunningLevel(n_fft))
    came = len(embedder.push({0: Chunk(speechlike[:1920])})[0])
    assert came > 0
    assert 1920 - came <= held_back_ms * 24


@pytest.mark.parametrize(("first_samples", "lead"), [(200, 56), (129, 127), (256, 0), (128, 0), (0, 0)])
def test_a_stream_is_embedded_as_a_clip_with_silence_before_it(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray, first_samples: int, lead: int
) -> None:
    """So much that the window of 256 that completes the first hop of 128 ends with the first samples, if it can."""
    clip = np.concatenate((np.zeros(lead, np.float32), speechlike))
    embedder = Embedder(silentcipher, sample_rate_hz=24000, num_slots=1, lane_width=1, first_samples=first_samples)
    assert embedder.lead_samples == lead
    embedder.join(0, SYMBOLS, oracle.level(clip))
    marked = embedder.push({0: Chunk(speechlike, last=True)})[0]
    assert len(marked) == len(speechlike)
    assert np.abs(marked - oracle.embed(clip, PAYLOAD)[lead:]).max() < 1e-6


def test_a_network_of_another_rate_does_not_resample_the_signal(tmp_path: Path, speechlike: np.ndarray) -> None:
    """The published networks work at 44.1 kHz: only the mark is resampled, the signal is not."""
    write_tiny_silentcipher(tmp_path, 0, n_fft=256, sample_rate_hz=44100)
    silentcipher, oracle = load_silentcipher(tmp_path), PackageOracle.load(tmp_path)
    up = block_resample(speechlike, 24000, 44100)
    expected = speechlike + block_resample(oracle.embed(up, PAYLOAD) - up, 44100, 24000)[: len(speechlike)]
    level: FixedLevel = oracle.level(up)
    marked = _marked_in_pieces(silentcipher, speechlike, [1920, 3840, 5000], level)
    assert len(marked) == len(speechlike)
    assert np.abs(marked - expected).max() < 1e-6
    assert np.abs(marked - speechlike).max() > 1e-5


@pytest.mark.parametrize("look_ahead", [FULL, ADAPTIVE], ids=["full", "adaptive"])
@pytest.mark.parametrize(
    "gain", [0.1, pytest.param(1.0, marks=pytest.mark.slow), pytest.param(3.0, marks=pytest.mark.slow)]
)
def test_running_level_holds_the_signal_to_distortion_ratio(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray, gain: float, look_ahead: LookAhead
) -> None:
    """Within 1.5 dB of what the package reaches with the loudness of the whole clip."""
    pcm = np.tile(speechlike, 4) * np.float32(gain)
    expected = _sdr_db(pcm, oracle.embed(pcm, PAYLOAD))
    marked = _marked_in_pieces(silentcipher, pcm, [], RunningLevel(256), look_ahead)
    assert _sdr_db(pcm, marked) == pytest.approx(expected, abs=1.5)


def _sdr_db(pcm: np.ndarray, marked: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(pcm**2) / np.mean((marked - pcm) ** 2)))


@pytest.mark.parametrize(
    ("pcm", "coverage"),
    [
        (np.zeros(24000, np.float32), Coverage.PARTIAL),
        (np.full(24000, 1e-5, np.float32), Coverage.PARTIAL),
        (np.random.default_rng(0).standard_normal(1500).astype(np.float32), Coverage.PARTIAL),
        (np.random.default_rng(0).standard_normal(21 * 128).astype(np.float32), Coverage.FULL),
    ],
    ids=["silent", "whisper of a whisper", "too short", "one period"],
)
def test_coverage_is_full_after_one_audible_period(
    silentcipher: SilentCipher, pcm: np.ndarray, coverage: Coverage
) -> None:
    embedder = Embedder(silentcipher, sample_rate_hz=24000, num_slots=1, lane_width=1)
    stream = embedder.join(0, SYMBOLS, RunningLevel(256))
    marked = embedder.push({0: Chunk(pcm, last=True)})[0]
    assert stream.coverage is coverage
    assert len(marked) == len(pcm)
    assert np.isfinite(marked).all()


def test_a_stream_without_audio_ends_without_audio(silentcipher: SilentCipher) -> None:
    assert len(mark_clip(silentcipher, np.zeros(0, np.float32), 24000, SYMBOLS, RunningLevel(256))) == 0
