"""An encoder that goes on after another one gives the same bytes, from little more than the last samples."""

from __future__ import annotations

import random

import numpy as np
import pytest
from csm.v1 import tts_pb2

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.encodings import (
    ENCODINGS,
    can_resume,
    open_encoder,
    open_last_samples,
    sample_rates_hz,
)
from services.gateway.audio.resampling.continuation import Place

NATURAL_HZ = 24_000
COMBINATIONS = [
    (encoding, rate)
    for encoding in ENCODINGS
    for rate in sample_rates_hz(encoding, NATURAL_HZ)
    if can_resume(encoding, NATURAL_HZ, rate)
]


def joined(pieces: list[EncodedAudio]) -> EncodedAudio:
    return EncodedAudio(b"".join(piece.content for piece in pieces), sum(piece.sample_count for piece in pieces))


def test_uncompressed_encodings_and_flac_can_resume() -> None:
    compressed = {tts_pb2.AUDIO_ENCODING_OGG_OPUS, tts_pb2.AUDIO_ENCODING_MP3, tts_pb2.AUDIO_ENCODING_AAC}
    assert {encoding for encoding, _ in COMBINATIONS} == set(ENCODINGS) - compressed
    assert not can_resume(tts_pb2.AUDIO_ENCODING_PCM, 37_801, 48_000)  # 75 KB of samples would be needed
    with pytest.raises(ValueError, match="goes on"):
        open_encoder(tts_pb2.AUDIO_ENCODING_MP3, NATURAL_HZ, NATURAL_HZ, 1, Place(0, 0))


@pytest.mark.parametrize(("encoding", "rate_hz"), COMBINATIONS)
def test_a_stream_resumes_bit_for_bit_several_times(encoding: tts_pb2.AudioEncoding, rate_hz: int) -> None:
    draw = random.Random(f"{encoding} {rate_hz}")
    samples = np.random.default_rng(rate_hz).normal(0, 4000, NATURAL_HZ).astype("<i2").tobytes()
    encoder = open_encoder(encoding, NATURAL_HZ, rate_hz, serial=1)
    whole = joined([encoder.push(samples), encoder.finish()])
    cuts = sorted(2 * draw.randrange(len(samples) // 2) for _ in range(3))
    cuts.insert(1, cuts[0] + 2 * draw.randrange(1, 100))  # soon after another one, and one at once
    pieces: list[EncodedAudio] = []
    place: Place | None = None
    for begin, end in zip([0, *cuts], [*cuts, len(samples)], strict=True):
        encoder = open_encoder(encoding, NATURAL_HZ, rate_hz, 1, place)
        last = open_last_samples(encoding, NATURAL_HZ, rate_hz, place)
        while begin < end:
            piece = samples[begin : min(end, begin + 2 * draw.choice((1, 480, 1920, 5000)))]
            begin += len(piece)
            last.push(piece)
            pieces.append(encoder.push(piece))
        place = last.place(end // 2, sum(piece.sample_count for piece in pieces))
        assert len(place.last_samples) <= 2 * 1900
    assert joined([*pieces, encoder.finish()]) == whole
    assert place is not None
    if rate_hz == NATURAL_HZ and encoding != tts_pb2.AUDIO_ENCODING_FLAC:
        assert len(place.last_samples) <= 2
