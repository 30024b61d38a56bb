"""Marked stretches inside a recording: joined turns, other sound between, cuts anywhere; false alarms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, product
from typing import Any

import numpy as np
import pytest

from csm_codec.resample import Pcm, resample
from csm_codec.watermark.detect import detector
from csm_codec.watermark.detect.detector import detect
from csm_codec.watermark.detect.evidence import (
    MAX_FALSE_ALARMS_PER_HOUR,
    PHASES,
    WINDOW_PERIODS,
    log_chances,
    log_threshold,
    most_keys,
    tries_per_hour,
)
from csm_codec.watermark.detect.loudest import LoudestPiece, loudest
from csm_codec.watermark.detect.pieces import result_of
from csm_codec.watermark.detect.scanner import Scan, Scanner, scan
from csm_codec.watermark.detect.symbol_grid import SymbolGrid
from csm_codec.watermark.detect.windows import hits
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher

HOP, RATE_HZ = 128, 24000
OURS, OTHER = WatermarkKey("ours", bytes([9, 200, 31, 4, 77])), WatermarkKey("other", bytes([1, 2, 3, 4, 5]))
KEYS = [OTHER, OURS]


def tones(key: WatermarkKey, num_frames: int, first: int = 0) -> Pcm:
    """Noise with a tone for each frame's symbol, centred at multiples of the hop."""
    symbols = [frame_symbols(key.payload)[frame % PERIOD] for frame in range(first, first + num_frames)]
    bins = 4 * (1 + np.repeat(symbols, HOP))
    sound = np.sin(2 * np.pi * bins * np.arange(len(bins)) / (2 * HOP))
    return (0.1 * sound + 0.02 * np.random.default_rng(0).standard_normal(len(bins))).astype(np.float32)


def noise(seconds: float, seed: int = 1) -> Pcm:
    count = round(seconds * RATE_HZ)
    return (0.05 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def placed(parts: list[tuple[str, Pcm]]) -> tuple[Pcm, list[tuple[float, float, str]]]:
    """(the joined parts, the times of the named ones in seconds)"""
    where, position = [], 0
    for name, part in parts:
        if name:
            where.append((position / RATE_HZ, (position + len(part)) / RATE_HZ, name))
        position += len(part)
    return np.concatenate([part for _, part in parts]), where


def assert_found(result: Scan, where: list[tuple[float, float, str]], tolerance_s: float = 0.15) -> None:
    assert [stretch.key_id for stretch in result.stretches] == [name for *_, name in where]
    for stretch, (start_s, end_s, _) in zip(result.stretches, where, strict=True):
        assert abs(stretch.start_s - start_s) < tolerance_s and abs(stretch.end_s - end_s) < tolerance_s
        assert stretch.confidence >= 0.9


@pytest.mark.parametrize("cut", [0, 1, 37, 64, 95, 5 * HOP + 100])
def test_turns_of_two_keys_between_noise_and_silence_are_found_where_they_are(
    tone_scheme: SilentCipher, cut: int
) -> None:
    recording, where = placed(
        [
            ("", noise(1.3)[cut:]),
            ("ours", tones(OURS, 300)),
            ("other", tones(OTHER, 200, first=3)),
            ("", np.zeros(2 * RATE_HZ + 17, np.float32)),
            ("ours", tones(OURS, 400, first=8)[cut:]),
            ("", noise(2.1, seed=2)),
        ]
    )
    assert_found(scan(tone_scheme, KEYS, recording, RATE_HZ), where)


def test_one_call_with_a_pause_is_one_stretch_and_two_calls_are_two(tone_scheme: SilentCipher) -> None:
    """The watermark of one call continues through its pauses; that of another call starts afresh.

    It may then be one frame early or late in the message, or any number.
    """
    pause = noise(110 * HOP / RATE_HZ)
    one = np.concatenate((tones(OURS, 300), pause, tones(OURS, 300, first=300 + 110)))
    assert len(scan(tone_scheme, KEYS, one, RATE_HZ).stretches) == 1
    for early in (-6, -1, 1, 4):
        two = np.concatenate((tones(OURS, 300), pause, tones(OURS, 300, first=300 + 110 + early)))
        assert len(scan(tone_scheme, KEYS, two, RATE_HZ).stretches) == 2


@pytest.mark.parametrize("cut", [0, HOP // 2])
def test_a_stretch_on_the_grid_has_exact_ends(tone_scheme: SilentCipher, cut: int) -> None:
    start, length = RATE_HZ - cut, 100 * HOP
    pcm = np.concatenate((np.zeros(start, np.float32), tones(OURS, 100), np.zeros(RATE_HZ, np.float32)))
    (stretch,) = scan(tone_scheme, KEYS, pcm, RATE_HZ).stretches
    error = HOP / 4 / RATE_HZ
    assert stretch.start_s == pytest.approx(start / RATE_HZ, abs=error)
    assert stretch.end_s == pytest.approx((start + length) / RATE_HZ, abs=error)


@pytest.mark.parametrize(("agreeing", "doubtful"), [(20, False), (17, True), (12, False)])
def test_intermediate_phases_are_read_in_blocks_with_a_likely_mark(
    tone_scheme: SilentCipher, agreeing: int, doubtful: bool
) -> None:
    """Two messages of twenty symbols each, of which that many are right, and silence after them."""
    symbols = np.array(frame_symbols(OURS.payload))
    symbols[agreeing:NUM_SYMBOLS] = 1 + symbols[agreeing:NUM_SYMBOLS] % 4
    message = np.full((PERIOD, 5), np.log(0.02), np.float16)
    message[np.arange(PERIOD), symbols] = np.log(0.92)
    readings = np.zeros((PHASES, 12 * PERIOD, 5), np.float16)
    readings[0, : 2 * PERIOD] = np.tile(message, (2, 1))
    assert Scanner(tone_scheme, [OURS], RATE_HZ)._is_doubtful(readings) is doubtful


@pytest.mark.parametrize("doubtful", [False, True])
def test_each_reading_of_the_decoder_is_a_piece_of_its_own(
    tone_scheme: SilentCipher, monkeypatch: pytest.MonkeyPatch, doubtful: bool
) -> None:
    """While the recording comes, at its end, and for the verdict on the whole, which takes up to 19."""
    monkeypatch.setattr(Scanner, "_is_doubtful", lambda *_: doubtful)
    readings, read, read_frames = [0], SymbolGrid.read, detector.read_frames

    def counted(inner: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any) -> Any:
            readings[0] += 1
            return inner(*args)

        return count

    monkeypatch.setattr(SymbolGrid, "read", counted(read))
    monkeypatch.setattr(detector, "read_frames", counted(read_frames))
    scanner, total = Scanner(tone_scheme, [OTHER], RATE_HZ), 0
    for pieces in (scanner.push_in_pieces(noise(4.0)), scanner.finish_in_pieces()):
        for _ in chain(pieces, [None]):
            assert readings[0] <= 1
            total, readings[0] = total + readings[0], 0
    assert total == 3 * (1 + doubtful) + 19


def test_chunking_of_a_recording_changes_nothing(tone_scheme: SilentCipher) -> None:
    recording = np.concatenate((noise(3.0), tones(OURS, 2000), noise(1.0)))
    whole = scan(tone_scheme, KEYS, recording, RATE_HZ)
    for sizes in ([100], [7, 24_001], [50_000]):
        scanner, start = Scanner(tone_scheme, KEYS, RATE_HZ), 0
        while start < len(recording):
            for size in sizes:
                scanner.push(recording[start : start + size])
                start += size
        assert scanner.finish() == whole
    assert len(whole.stretches) == 1


def test_other_rates_are_searched_and_times_are_those_of_the_recording(tone_scheme: SilentCipher) -> None:
    recording, where = placed([("", noise(2.0)), ("ours", tones(OURS, 500)), ("", noise(1.0))])
    result = scan(tone_scheme, KEYS, resample(recording, RATE_HZ, 48_000), 48_000)
    assert_found(result, where)


def test_the_verdict_on_the_whole_is_that_of_detect(tone_scheme: SilentCipher) -> None:
    """Six seconds at the tests' networks: the loudest of a longer recording."""
    for recording in (
        np.concatenate((noise(8.0), tones(OURS, 400), noise(5.0))),
        noise(20.0),
        tones(OTHER, 40),
        noise(0.01),
    ):
        assert scan(tone_scheme, KEYS, recording, RATE_HZ).whole == detect(tone_scheme, KEYS, recording, RATE_HZ)


def test_silence_nothing_and_no_keys_give_no_stretch(tone_scheme: SilentCipher) -> None:
    for recording in (np.zeros(50_000, np.float32), np.zeros(0, np.float32), noise(0.001)):
        assert scan(tone_scheme, KEYS, recording, RATE_HZ).stretches == ()
    assert scan(tone_scheme, [], tones(OURS, 300), RATE_HZ) == scan(tone_scheme, [], noise(1), RATE_HZ)


def test_an_unknown_key_is_not_found(tone_scheme: SilentCipher) -> None:
    assert scan(tone_scheme, [OTHER], tones(OURS, 2000), RATE_HZ).stretches == ()


def test_unmarked_sound_of_any_kind_gives_no_stretch(tone_scheme: SilentCipher) -> None:
    """On steady tones the decoder reads the same symbols again and again, with high confidence."""
    random = np.random.default_rng(3)
    keys = [WatermarkKey(str(number), random.bytes(5)) for number in range(most_keys(PERIOD * HOP / RATE_HZ))]
    assert len(keys) == 10
    steady = [0.1 * np.sin(2 * np.pi * b * np.arange(3 * RATE_HZ) / (2 * HOP)) for b in (4, 8, 12, 16, 20)]
    recording = np.concatenate((*steady, noise(10.0), np.tile(tones(OURS, 15), 20))).astype(np.float32)
    assert scan(tone_scheme, keys, recording, RATE_HZ).stretches == ()


def test_a_mark_is_found_although_many_keys_raise_the_threshold(tone_scheme: SilentCipher) -> None:
    """In a search at the stated rate no reading would pass."""
    random = np.random.default_rng(4)
    most = most_keys(PERIOD * HOP / RATE_HZ)
    keys = [*(WatermarkKey(str(number), random.bytes(5)) for number in range(3 * most)), OURS]
    recording = np.concatenate((noise(2.0), tones(OURS, 400), noise(2.0)))
    assert [stretch.key_id for stretch in scan(tone_scheme, keys, recording, RATE_HZ).stretches] == ["ours"]
    assert scan(tone_scheme, keys, noise(5.0), RATE_HZ).stretches == ()


def test_the_bound_is_never_below_the_true_chance() -> None:
    """Against every key of a short message: the share of keys that score at least as high. The rest is certain."""
    random = np.random.default_rng(0)
    for scale in (0.1, 1.0, 20.0):
        votes = np.zeros((1, NUM_SYMBOLS, 4), np.float32)
        votes[:, :6] = random.normal(scale=scale, size=(1, 6, 4))
        keys = np.array(list(product(range(4), repeat=6)))
        scores = votes[0, np.arange(6), keys].sum(axis=1)
        for index in random.integers(len(keys), size=60):
            symbols = np.concatenate((keys[index], np.zeros(NUM_SYMBOLS - 6, np.int64)))
            truth = np.log(np.mean(scores >= scores[index] - 1e-6))
            assert log_chances(votes, symbols)[0] >= truth - 1e-4


def test_the_bound_of_a_perfect_reading_is_the_chance_to_guess_the_key() -> None:
    votes = np.zeros((1, NUM_SYMBOLS, 4), np.float32)
    votes[:, :, 2] = 10
    assert log_chances(votes, np.full(NUM_SYMBOLS, 2))[0] == pytest.approx(NUM_SYMBOLS * np.log(0.25), rel=1e-3)
    assert log_chances(votes, np.full(NUM_SYMBOLS, 1))[0] == 0.0


def test_the_threshold_times_all_tries_of_an_hour_is_the_stated_rate() -> None:
    assert (most_keys(0.448), most_keys(0.9752)) == (40, 88)
    for period_s, keys in ((0.448, 1), (0.448, 40), (0.9752, 88)):
        tries = tries_per_hour(period_s, keys)
        assert tries == pytest.approx(3600 / period_s * len(WINDOW_PERIODS) * PHASES * PERIOD * keys)
        assert np.exp(log_threshold(period_s, keys)) * tries <= MAX_FALSE_ALARMS_PER_HOUR * (1 + 1e-9)
        assert log_threshold(period_s, keys) > NUM_SYMBOLS * np.log(0.25)  # a perfect reading passes


def test_random_keys_pass_the_windows_no_more_often_than_bound() -> None:
    """At a threshold that is low enough to be seen: 2,000 random keys against one reading."""
    random = np.random.default_rng(4)
    readings = np.log(random.dirichlet([0.3] * 5, size=4 * PERIOD)).astype(np.float32)
    keys = [random.integers(0, 4, NUM_SYMBOLS) for _ in range(2000)]
    limit = 1e-4
    windows = sum(max(0, 4 - length + 1) for length in WINDOW_PERIODS if length <= 4)
    found = result_of(hits(readings, 0, keys, float(np.log(limit))))
    assert len(found) <= 2 * limit * windows * PERIOD * len(keys)


def test_loudest_piece_of_a_stream_is_that_of_the_whole() -> None:
    random = np.random.default_rng(5)
    for length in (0, 1, 99, 100, 101, 5000):
        pcm = (random.standard_normal(length) * random.uniform(0, 1, length)).astype(np.float32)
        piece = LoudestPiece(100)
        for part in np.array_split(pcm, 7):
            piece.push(part)
        assert np.array_equal(piece.get(), pcm[loudest(pcm, 100)])
