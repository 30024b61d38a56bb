"""The streaming embedder against the package's own embedding of the whole clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csm_engine.codec.resample import resample
from csm_engine.codec.watermark.coverage import Coverage
from csm_engine.codec.watermark.level import FixedLevel, LevelEstimate, RunningLevel
from csm_engine.codec.watermark.marker import Chunk, Marker, mark_clip
from csm_engine.codec.watermark.payload import frame_symbols
from csm_engine.codec.watermark.silentcipher import SilentCipher, load_silentcipher
from csm_engine.testing.silentcipher import write_miniature_silentcipher
from csm_engine.testing.silentcipher_oracle import PackageOracle

PAYLOAD = bytes([1, 200, 33, 4, 250])
SYMBOLS = frame_symbols(PAYLOAD)


def _marked_in_pieces(
    silentcipher: SilentCipher, pcm: np.ndarray, borders: list[int], level: LevelEstimate
) -> np.ndarray:
    marker = Marker(silentcipher, sample_rate_hz=24000, num_seats=1, lane_width=1)
    marker.join(0, SYMBOLS, level)
    pieces = np.split(pcm, borders)
    chunks = [Chunk(piece, last=index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    return np.concatenate([marker.push({0: chunk})[0] for chunk in chunks])


@pytest.mark.parametrize("length", [16_321, 256 * 40, 256 * 40 - 1, 129, 128, 127, 5, 1])
def test_marks_as_the_package_does(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray, length: int
) -> None:
    pcm = speechlike[:length]
    expected = oracle.embed(pcm, PAYLOAD)
    marked = mark_clip(silentcipher, pcm, 24000, SYMBOLS, oracle.level(pcm))
    assert np.abs(expected - pcm).max() > 1e-5
    assert np.abs(marked - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_chunked_equals_whole_bit_for_bit(silentcipher: SilentCipher, speechlike: np.ndarray, seed: int) -> None:
    whole = mark_clip(silentcipher, speechlike, 24000, SYMBOLS, RunningLevel(256))
    borders = sorted(np.random.default_rng(seed).integers(0, len(speechlike) + 1, 25).tolist())
    marked = _marked_in_pieces(silentcipher, speechlike, borders, RunningLevel(256))
    assert np.array_equal(marked, whole)


def test_row_is_bitwise_the_same_whoever_sits_beside_it(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    def run(rows: dict[int, int]) -> dict[int, np.ndarray]:
        """rows: samples per push of each seat, which therefore end at different times."""
        marker = Marker(silentcipher, sample_rate_hz=24000, num_seats=3, lane_width=3)
        heard: dict[int, list[np.ndarray]] = {row: [] for row in rows}
        position = dict.fromkeys(rows, 0)
        for row in rows:
            marker.join(row, frame_symbols(bytes([row] * 5)), RunningLevel(256))
        while any(position[row] < len(speechlike) for row in rows):
            chunks = {}
            for row, size in rows.items():
                start, end = position[row], min(position[row] + size, len(speechlike))
                if start < end:
                    chunks[row] = Chunk(speechlike[start:end] * (row + 1) / 3, last=end == len(speechlike))
                    position[row] = end
            for row, pcm in marker.push(chunks).items():
                heard[row].append(pcm)
        return {row: np.concatenate(parts) for row, parts in heard.items()}

    together = run({0: 1920, 1: 700, 2: 5000})
    for row in range(3):
        alone = run({row: 1920})[row]
        assert len(alone) == len(speechlike)
        assert np.array_equal(together[row], alone)


def test_a_row_taken_over_starts_afresh(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    marker = Marker(silentcipher, sample_rate_hz=24000, num_seats=1, lane_width=1)
    marker.join(0, SYMBOLS, RunningLevel(256))
    marker.push({0: Chunk(speechlike[:7777])})  # left without an end
    marker.join(0, SYMBOLS, RunningLevel(256))
    again = marker.push({0: Chunk(speechlike, last=True)})[0]
    assert np.array_equal(again, mark_clip(silentcipher, speechlike, 24000, SYMBOLS, RunningLevel(256)))


@pytest.mark.parametrize(("rate_hz", "latency"), [(24000, 8 * 128), (44100, 2718)])
def test_output_lags_no_more_than_stated(tmp_path: Path, speechlike: np.ndarray, rate_hz: int, latency: int) -> None:
    write_miniature_silentcipher(tmp_path, 0, n_fft=256, band=32, sample_rate_hz=rate_hz)
    marker = Marker(load_silentcipher(tmp_path), sample_rate_hz=24000, num_seats=1, lane_width=1)
    marker.join(0, SYMBOLS, RunningLevel(256))
    came = 0
    for start in range(0, 9600, 480):
        came += len(marker.push({0: Chunk(speechlike[start : start + 480])})[0])
        assert start + 480 - came <= marker.latency_samples
    assert marker.latency_samples == latency


def test_another_rate_of_the_network_leaves_the_signal_alone(tmp_path: Path, speechlike: np.ndarray) -> None:
    """The published networks work at 44.1 kHz: only the mark is resampled, the signal is not."""
    write_miniature_silentcipher(tmp_path, 0, n_fft=256, band=32, sample_rate_hz=44100)
    silentcipher, oracle = load_silentcipher(tmp_path), PackageOracle.load(tmp_path)
    up = resample(speechlike, 24000, 44100)
    expected = speechlike + resample(oracle.embed(up, PAYLOAD) - up, 44100, 24000)[: len(speechlike)]
    level: FixedLevel = oracle.level(up)
    marked = _marked_in_pieces(silentcipher, speechlike, [1920, 3840, 10_000], level)
    assert len(marked) == len(speechlike)
    assert np.abs(marked - expected).max() < 1e-6
    assert np.abs(marked - speechlike).max() > 1e-5


@pytest.mark.parametrize("gain", [0.1, 1.0, 3.0])
def test_running_level_holds_the_signal_to_distortion_ratio(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray, gain: float
) -> None:
    """Within 1.5 dB of what the package reaches with the loudness of the whole clip."""
    pcm = np.tile(speechlike, 4) * np.float32(gain)
    expected = _sdr_db(pcm, oracle.embed(pcm, PAYLOAD))
    marked = mark_clip(silentcipher, pcm, 24000, SYMBOLS, RunningLevel(256))
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
    marker = Marker(silentcipher, sample_rate_hz=24000, num_seats=1, lane_width=1)
    stream = marker.join(0, SYMBOLS, RunningLevel(256))
    marked = marker.push({0: Chunk(pcm, last=True)})[0]
    assert stream.coverage is coverage
    assert len(marked) == len(pcm)
    assert np.isfinite(marked).all()


def test_a_stream_without_audio_ends_without_audio(silentcipher: SilentCipher) -> None:
    assert len(mark_clip(silentcipher, np.zeros(0, np.float32), 24000, SYMBOLS, RunningLevel(256))) == 0
