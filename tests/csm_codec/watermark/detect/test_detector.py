"""Detection: against the package's own, and the search for phase, shift and key on a mark that any decoder can read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_codec.resample import resample
from csm_codec.watermark.detect import detector
from csm_codec.watermark.detect.detector import detect, most_agreements, read_frames, read_votes
from csm_codec.watermark.detect.false_alarm import needed_agreements, tail
from csm_codec.watermark.detect.loudest import loudest
from csm_codec.watermark.detect.pieces import result_of
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.level import NOMINAL_POWER
from tests.support.silentcipher_oracle import PackageOracle

HOP = 128
OURS, OTHER = WatermarkKey("ours", bytes([9, 200, 31, 4, 77])), WatermarkKey("other", bytes([1, 2, 3, 4, 5]))


def test_symbols_are_those_the_package_reads(
    silentcipher: SilentCipher, oracle: PackageOracle, speechlike: np.ndarray
) -> None:
    """The package's vote over all periods, as symbols; it also rotates them to the end mark, if it hears one."""
    power = np.mean(speechlike**2)
    nominal = speechlike * np.float32(np.sqrt(NOMINAL_POWER / power))
    symbols = read_frames(silentcipher, nominal).argmax(axis=1)
    with torch.no_grad():
        carrier, _ = oracle.model.stft.transform(
            torch.from_numpy(speechlike * np.float32(np.sqrt(oracle.model.average_energy_VCTK / power)))[None]
        )
        theirs = oracle.model.dec_m[0](carrier[:, None])[0, 0].argmax(0).numpy()
    assert np.array_equal(symbols, theirs)
    assert len(set(symbols.tolist())) > 1


def _tones(key: WatermarkKey, num_frames: int = 3 * PERIOD) -> np.ndarray:
    """Noise, with the tone of each frame's symbol. Frames of this grid begin half a hop late."""
    symbols = [frame_symbols(key.payload)[frame % PERIOD] for frame in range(num_frames)]
    bins = 4 * (1 + np.repeat(symbols, HOP))
    tones = np.sin(2 * np.pi * bins * np.arange(len(bins)) / (2 * HOP))
    noise = np.random.default_rng(0).standard_normal(len(bins))
    return (0.1 * tones + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("start", [0, 1, 37, 64, 127, 128, 5 * HOP, 30 * HOP + 100])
def test_a_clip_cut_anywhere_is_recognised(tone_scheme: SilentCipher, start: int) -> None:
    found = detect(tone_scheme, [OTHER, OURS], _tones(OURS)[start:], 24000)
    assert (found.detected, found.key_id) == (True, "ours")
    assert found.confidence >= 0.9


def test_the_phase_that_fits_is_counted_from_the_beginning_of_the_recording(
    silentcipher: SilentCipher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phases are tried on a loud piece, which begins anywhere; here at the end of the recording."""
    pcm = np.zeros(400 * HOP + 50, np.float32)
    pcm[37::HOP] = np.linspace(0.1, 1, 401)  # where frames begin

    def distance(silentcipher: SilentCipher, piece: np.ndarray) -> int:
        first = int(np.flatnonzero(piece)[0])
        return min(first, HOP - first)

    monkeypatch.setattr(detector, "read_votes", distance)
    monkeypatch.setattr(detector, "most_agreements", lambda votes, expected: np.array([-votes]))
    best = result_of(detector._best_phase(silentcipher, pcm, np.zeros((1, PERIOD), np.int64)))
    assert abs(best - 37) <= 2


@pytest.mark.parametrize(("num_keys", "detected"), [(17, True), (18, False)])
def test_more_keys_need_more_symbols(
    silentcipher: SilentCipher, monkeypatch: pytest.MonkeyPatch, num_keys: int, detected: bool
) -> None:
    """Eighteen of twenty symbols are enough for up to 17 keys."""
    heard = np.array(frame_symbols(OURS.payload))
    heard[:2] = 1 + heard[:2] % 4
    monkeypatch.setattr(detector, "read_votes", lambda *_: np.eye(5, dtype=np.float32)[heard])
    others = [WatermarkKey(str(number), bytes([number] * 5)) for number in range(num_keys - 1)]
    found = detect(silentcipher, [OURS, *others], np.full(24000, 0.1, np.float32), 24000)
    assert (found.detected, found.confidence) == (detected, 0.9)


def test_another_rate_is_recognised(tone_scheme: SilentCipher) -> None:
    found = detect(tone_scheme, [OURS], resample(_tones(OURS), 24000, 44100), 44100)
    assert found.detected


def test_an_unknown_key_is_not_recognised(tone_scheme: SilentCipher) -> None:
    found = detect(tone_scheme, [OURS], _tones(OTHER), 24000)
    assert not found.detected and found.key_id == "" and found.confidence < 0.8


def test_noise_silence_and_nothing_are_not_recognised(tone_scheme: SilentCipher) -> None:
    noise = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    for pcm in (noise, np.zeros(20_000, np.float32), noise[:1], noise[: 5 * HOP]):
        assert not detect(tone_scheme, [OURS, OTHER], pcm, 24000).detected


def test_only_the_loudest_piece_of_a_long_recording_is_read(tone_scheme: SilentCipher) -> None:
    quiet = np.zeros(24000 * 13, np.float32)
    found = detect(tone_scheme, [OURS], np.concatenate((quiet, _tones(OURS), quiet)), 24000)
    assert found.detected
    pcm = np.array([0, 0, 1, 3, 1, 0], np.float32)
    assert pcm[loudest(pcm, 3)].tolist() == [1, 3, 1]
    assert pcm[loudest(pcm, 9)].tolist() == pcm.tolist()


def test_votes_beyond_one_period_are_added_in_place(tone_scheme: SilentCipher) -> None:
    votes = read_votes(tone_scheme, _tones(OURS, 2 * PERIOD)[HOP // 2 :])
    assert votes.shape == (PERIOD, 5)
    expected = np.array([frame_symbols(OURS.payload), frame_symbols(OTHER.payload)])
    ours, other = most_agreements(votes, expected)
    assert ours >= 19 > other


def test_false_alarms_are_as_rare_as_stated() -> None:
    """The least agreement asked for is the binomial bound; random keys against one reading do not exceed it."""
    assert tail(0) == pytest.approx(1) and tail(20) == pytest.approx(0.25**20)
    assert needed_agreements(1, 0.5) == 6
    tries = 17 * PERIOD
    needed = needed_agreements(tries)
    assert tries * tail(needed) <= 1e-5 < tries * tail(needed - 1)
    assert needed_agreements(10**9) == 21  # nothing proves anything after so many tries

    random = np.random.default_rng(0)
    keys = np.array([frame_symbols(random.bytes(5)) for _ in range(20_000)])
    reading = random.random((PERIOD, 5)).astype(np.float32)
    agreements = most_agreements(reading, keys)
    for k in (11, 12, 13):
        assert np.mean(agreements >= k) <= PERIOD * tail(k) * 1.3
