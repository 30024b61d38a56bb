"""The codec as it runs on a GPU, here on a CPU: batches for Mimi and mark. Its sound is that of the CPU's codec."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from csm_codec.codec import Codec
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.encoder import encode
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.stream import Audio
from csm_codec.watermark.detect.detector import detect
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE

ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "bundles" / "builtin"
KEYS = [WatermarkKey(f"key-{seed}", np.random.default_rng(seed).bytes(5)) for seed in range(2)]
SECONDS = 1.2


def new_codec(mimi: Mimi, silentcipher: SilentCipher, width: int, *, batch: bool) -> Codec:
    decoder = MimiDecoder(mimi, num_lanes=1, lane_width=width, form=Form.BATCH if batch else None)
    assert isinstance(decoder._half, BatchLanes) == batch
    embedder = Embedder(
        silentcipher, sample_rate_hz=24000, num_slots=width, lane_width=width if batch else 1, look_ahead=ADAPTIVE,
        first_samples=1920,
    )  # fmt: skip
    return Codec(decoder, embedder, Keyring(KEYS[0], {key.id: key for key in KEYS}))


def sound(codec: Codec, codes: np.ndarray) -> np.ndarray:
    stream, pcm = codec.open(), []
    codec.push(stream, codes)
    codec.finish(stream)
    while codec.has_work:
        pcm += [output.pcm for output in codec.step() if isinstance(output, Audio) and output.stream is stream]
    return np.concatenate(pcm)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    with wave.open(str(ROOT / "tests" / "assets" / "speech_24khz.wav")) as file:
        samples = np.frombuffer(file.readframes(round(SECONDS * 24000)), "<i2")
    return (samples / 32768).astype(np.float32)


def test_sound_is_that_of_a_cpu_and_the_mark_is_found(speech: np.ndarray) -> None:
    mimi, silentcipher = load_mimi(BUILTIN / "mimi"), load_silentcipher(BUILTIN / "silentcipher")
    codes = encode(mimi, speech, 24000).astype(np.int64)
    expected = sound(new_codec(mimi, silentcipher, 2, batch=False), codes)
    codec = new_codec(mimi, silentcipher, 2, batch=True)
    beside = codec.open()  # runs on while the other one is heard
    codec.push(beside, codes[::-1])
    made = sound(codec, codes)
    assert len(made) == len(expected) == len(codes) * 1920
    assert np.abs(made - expected).max() < 1e-4 * np.abs(expected).max()
    found = detect(silentcipher, KEYS, made, 24000)
    assert found.detected and found.key_id == KEYS[0].id
