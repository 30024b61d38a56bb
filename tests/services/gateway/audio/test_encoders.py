"""What holds for every encoding at every rate."""

from __future__ import annotations

import asyncio
import math
import random

import numpy as np
import pytest
from csm.v1 import tts_pb2

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.encodings import (
    ENCODINGS,
    SAMPLE_RATES_HZ,
    open_encoder,
    sample_rates_hz,
)
from services.gateway.rpc.sinks import encode

NATURAL_HZ = 24_000
COMBINATIONS = [(encoding, rate) for encoding in ENCODINGS for rate in sample_rates_hz(encoding, NATURAL_HZ)]


def joined(pieces: list[EncodedAudio]) -> EncodedAudio:
    return EncodedAudio(b"".join(piece.content for piece in pieces), sum(piece.sample_count for piece in pieces))


@pytest.mark.parametrize(("encoding", "rate_hz"), COMBINATIONS)
def test_chunked_equals_whole(encoding: tts_pb2.AudioEncoding, rate_hz: int) -> None:
    draw = random.Random(f"{encoding} {rate_hz}")
    count = draw.randrange(NATURAL_HZ // 2, NATURAL_HZ)
    samples = np.random.default_rng(count).normal(0, 4000, count).astype("<i2").tobytes()
    encoder = open_encoder(encoding, NATURAL_HZ, rate_hz, serial=1)
    whole = joined([encoder.push(samples), encoder.finish()])
    assert whole.sample_count == math.ceil(count * rate_hz / NATURAL_HZ)
    if ENCODINGS[encoding].is_headerless or encoding == tts_pb2.AUDIO_ENCODING_WAV:
        assert len(whole.content) * rate_hz == whole.sample_count * ENCODINGS[encoding].bytes_per_second(rate_hz)
    for _ in range(3):
        encoder = open_encoder(encoding, NATURAL_HZ, rate_hz, serial=1)
        pieces, at = [], 0
        while at < len(samples):
            size = 2 * draw.choice((1, 7, 480, 1920, 5000))
            pieces.append(encoder.push(samples[at : at + size]))
            at += size
        assert joined([*pieces, encoder.finish()]) == whole


def test_a_model_s_unusual_rate_can_be_kept() -> None:
    assert sample_rates_hz(tts_pb2.AUDIO_ENCODING_PCM, 37_800) == sorted((*SAMPLE_RATES_HZ, 37_800))
    assert sample_rates_hz(tts_pb2.AUDIO_ENCODING_OGG_OPUS, 37_800) == [8_000, 12_000, 16_000, 24_000, 48_000]


def test_unknown_encoding_has_no_encoder() -> None:
    with pytest.raises(ValueError, match="no encoder"):
        open_encoder(tts_pb2.AUDIO_ENCODING_UNSPECIFIED, NATURAL_HZ, NATURAL_HZ, serial=1)


async def test_encoding_long_audio_does_not_block_other_calls() -> None:
    turns = 0

    async def other_call() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(other_call())
    audio = await encode(open_encoder(tts_pb2.AUDIO_ENCODING_ALAW, NATURAL_HZ, 8_000, 1), bytes(2 * 10 * NATURAL_HZ))
    other.cancel()
    assert audio.sample_count > 79_900 and turns >= 50
