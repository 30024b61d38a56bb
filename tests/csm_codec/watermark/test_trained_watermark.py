"""The built-in watermark on real speech: streamed in, distorted, and found again."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from csm_codec.resample import Pcm, resample
from csm_codec.watermark.detect.detector import detect
from csm_codec.watermark.detect.scanner import scan
from csm_codec.watermark.embed.embedder import Chunk, Embedder, mark_clip
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.coverage import Coverage
from csm_codec.watermark.stream.level import RunningLevel
from tests.support.silentcipher_oracle import PackageOracle

ROOT = Path(__file__).parents[3]
RATE_HZ = 24000
KEYS = [WatermarkKey(f"key-{seed}", np.random.default_rng(seed).bytes(5)) for seed in range(3)]


@pytest.fixture(scope="module")
def trained() -> SilentCipher:
    return load_silentcipher(ROOT / "bundles" / "builtin" / "silentcipher")


@pytest.fixture(scope="module")
def speech() -> Pcm:
    """A held-out sentence by flite's voice slt."""
    with wave.open(str(ROOT / "tests" / "assets" / "speech_24khz.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2)
        return (np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768).astype(np.float32)


def _mark_streaming(
    trained: SilentCipher,
    pcm: Pcm,
    key: WatermarkKey,
    seed: int,
    lane_width: int = 1,
    dtype: torch.dtype = torch.float32,
) -> tuple[Pcm, Coverage]:
    """As the codec stage does it, in chunks of random lengths."""
    random = np.random.default_rng(seed)
    embedder = Embedder(trained, sample_rate_hz=RATE_HZ, num_slots=lane_width, lane_width=lane_width, dtype=dtype)
    stream = embedder.join(0, frame_symbols(key.payload), RunningLevel(embedder.n_fft))
    borders = np.sort(random.choice(len(pcm), size=12, replace=False))
    chunks = np.split(pcm, borders)
    pieces = [embedder.push({0: Chunk(chunk, last=index == len(borders))})[0] for index, chunk in enumerate(chunks)]
    return np.concatenate(pieces), stream.coverage


@pytest.fixture(scope="module")
def marked(trained: SilentCipher, speech: Pcm) -> Pcm:
    return _mark_streaming(trained, speech, KEYS[0], seed=0)[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_mark_is_found_at_any_chunking(trained: SilentCipher, speech: Pcm, marked: Pcm, seed: int) -> None:
    again, coverage = _mark_streaming(trained, speech, KEYS[0], seed)
    assert np.array_equal(again, marked) and coverage is Coverage.FULL
    found = detect(trained, [KEYS[1], KEYS[0]], _sixteen_bit(again), RATE_HZ)
    assert (found.detected, found.key_id) == (True, KEYS[0].id)


@pytest.mark.parametrize("lane_width", [pytest.param(1, marks=pytest.mark.slow), 2], ids=["alone", "lane"])
def test_mark_in_bfloat16_is_found_and_near_the_exact_one_at_any_chunking(
    trained: SilentCipher, speech: Pcm, lane_width: int
) -> None:
    clip = speech[: 2 * RATE_HZ]  # some CPUs emulate bfloat16, slowly
    exact = _mark_streaming(trained, clip, KEYS[0], seed=0)[0]
    rounded, again = (_mark_streaming(trained, clip, KEYS[0], seed, lane_width, torch.bfloat16)[0] for seed in (1, 2))
    assert np.array_equal(rounded, again)
    power = [float(np.square(difference).sum()) for difference in (exact - clip, rounded - exact)]
    assert 10**-8 * power[0] < power[1] < 10**-3 * power[0]  # 34 and 52 dB were seen
    assert detect(trained, KEYS, _sixteen_bit(rounded), RATE_HZ).key_id == KEYS[0].id


def test_the_mark_is_the_package_s(trained: SilentCipher, speech: Pcm) -> None:
    oracle = PackageOracle.load(ROOT / "bundles" / "builtin" / "silentcipher")
    ours = mark_clip(trained, speech, RATE_HZ, frame_symbols(KEYS[0].payload), oracle.level(speech))
    assert np.abs(ours - oracle.embed(speech, KEYS[0].payload)).max() < 1e-6
    assert np.abs(ours - speech).max() > 1e-4


def test_our_mark_is_found_by_the_package_as_shipped_and_its_mark_by_us(
    trained: SilentCipher, speech: Pcm, marked: Pcm
) -> None:
    """It never calls eval(): its networks normalise by the statistics of the clip. The marks differ; both are read."""
    shipped = PackageOracle.load(ROOT / "bundles" / "builtin" / "silentcipher", as_shipped=True)
    theirs = shipped.embed(speech, KEYS[0].payload)
    assert detect(trained, KEYS, _sixteen_bit(theirs), RATE_HZ).key_id == KEYS[0].id
    read = shipped.read(trained, _sixteen_bit(marked))
    expected = np.resize(frame_symbols(KEYS[0].payload), len(read))
    assert np.mean(read == expected) > 0.8
    assert np.mean(shipped.read(trained, speech) == expected) < 0.5
    exact = PackageOracle.load(ROOT / "bundles" / "builtin" / "silentcipher").embed(speech, KEYS[0].payload)
    difference, mark = np.sum((theirs - exact) ** 2), np.sum((exact - speech) ** 2)
    assert 1e-6 < difference / mark < 0.5


def test_marks_of_two_keys_are_distinguished(trained: SilentCipher, speech: Pcm) -> None:
    other, _ = _mark_streaming(trained, speech, KEYS[2], seed=0)
    assert detect(trained, KEYS, other, RATE_HZ).key_id == KEYS[2].id


def test_speech_without_a_mark_is_not_found(trained: SilentCipher, speech: Pcm) -> None:
    found = detect(trained, KEYS, speech, RATE_HZ)
    assert not found.detected and found.key_id == ""


def test_the_mark_of_another_key_is_not_found(trained: SilentCipher, marked: Pcm) -> None:
    assert not detect(trained, KEYS[1:], marked, RATE_HZ).detected


def test_the_mark_survives_mu_law(trained: SilentCipher, marked: Pcm) -> None:
    assert detect(trained, KEYS, _mu_law(marked), RATE_HZ).key_id == KEYS[0].id


@pytest.mark.parametrize(
    "channel", ["mu-law", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "telephone rate"))]
)
def test_turns_joined_with_other_speech_and_silence_are_found_where_they_are(
    trained: SilentCipher, speech: Pcm, marked: Pcm, channel: str
) -> None:
    """Two turns of one key, one of another, cut at samples of no grid; unmarked speech and silence between."""
    other, _ = _mark_streaming(trained, speech[9000:], KEYS[1], seed=4)
    silence = np.zeros(30_011, np.float32)
    parts = [silence, speech, marked[101:], 2 * speech, other, silence, marked[20_077:75_003], speech[:40_000], marked]
    borders = np.cumsum([0, *map(len, parts)]) / RATE_HZ
    turns = [
        (borders[i], borders[i + 1], key.id) for i, key in ((2, KEYS[0]), (4, KEYS[1]), (6, KEYS[0]), (8, KEYS[0]))
    ]
    recording, rate_hz = np.concatenate(parts), RATE_HZ
    if channel == "mu-law":
        recording = _mu_law(recording)
    elif channel == "telephone rate":
        recording, rate_hz = resample(recording, RATE_HZ, 8000), 8000
    stretches = scan(trained, KEYS, recording, rate_hz).stretches
    assert [stretch.key_id for stretch in stretches] == [key_id for *_, key_id in turns]
    for stretch, (start_s, end_s, _) in zip(stretches, turns, strict=True):
        assert abs(stretch.start_s - start_s) < 0.7 and abs(stretch.end_s - end_s) < 0.7
        assert stretch.confidence >= 0.9


def test_twenty_seconds_of_unmarked_speech_have_no_stretch(trained: SilentCipher, speech: Pcm) -> None:
    """One sentence again and again. recipes/builtin_voice/watermark/false_alarms.py scans hours of other ones."""
    assert scan(trained, KEYS, np.tile(speech, 6), RATE_HZ).stretches == ()


@pytest.mark.parametrize("start", [211, 5003])
def test_the_mark_survives_a_cut_off_beginning(trained: SilentCipher, marked: Pcm, start: int) -> None:
    assert detect(trained, KEYS, marked[start:], RATE_HZ).key_id == KEYS[0].id


def test_the_mark_survives_telephone_rate(trained: SilentCipher, marked: Pcm) -> None:
    assert detect(trained, KEYS, resample(marked, RATE_HZ, 8000), 8000).key_id == KEYS[0].id


def test_the_mark_is_as_faint_as_the_folder_states(trained: SilentCipher, speech: Pcm, marked: Pcm) -> None:
    """The ratio in hparams.yaml is of the mark before it is cut to what the audio holds: it is a lower bound."""
    ratio_db = 10 * np.log10(np.sum(speech**2) / np.sum((marked - speech) ** 2))
    assert trained.hparams.sdr_db - 1 < ratio_db < trained.hparams.sdr_db + 10


def _sixteen_bit(pcm: Pcm) -> Pcm:
    return (np.round(pcm * 32767) / 32767).astype(np.float32)


def _mu_law(pcm: Pcm) -> Pcm:
    """8 bits along the curve of ITU-T G.711, mu = 255."""
    squeezed = np.sign(pcm) * np.log1p(255 * np.abs(pcm)) / np.log(256)
    squeezed = np.round(squeezed * 127) / 127
    return (np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log(256)) / 255).astype(np.float32)
