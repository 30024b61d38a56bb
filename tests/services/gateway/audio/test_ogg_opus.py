"""Ogg Opus as a stream, decoded by libsndfile and libopus of another build than the encoder's."""

from __future__ import annotations

import io
import math
import os
import struct

import numpy as np
import pytest
import soundfile
from csm.v1 import tts_pb2

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.encodings import ENCODINGS, open_encoder
from services.gateway.audio.ogg_opus import OPUS_BIT_RATES
from tests.services.gateway.audio.speech_like import FRAME, NATURAL_HZ, encode, frames, speech_like, thread_count

OPUS = tts_pb2.AUDIO_ENCODING_OGG_OPUS
RATES_HZ = sorted(OPUS_BIT_RATES)


def pages(content: bytes) -> list[tuple[int, int]]:
    """(flags, granule position) of every page; fails unless the content is pages and nothing else."""
    found, at = [], 0
    while at < len(content):
        magic, version, flags, granule = struct.unpack_from("<4sBBq", content, at)
        assert (magic, version) == (b"OggS", 0)
        segments = content[at + 27 : at + 27 + content[at + 26]]
        at += 27 + len(segments) + sum(segments)
        found.append((flags, granule))
    assert at == len(content)
    return found


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_independent_decoder_gives_the_same_audio_at_the_same_time(rate_hz: int) -> None:
    from scipy.signal import correlate  # takes a second

    count = 2 * NATURAL_HZ + 77
    made = encode(open_encoder(OPUS, NATURAL_HZ, rate_hz, serial=1), frames(speech_like(count, NATURAL_HZ)))
    heard, heard_hz = soundfile.read(io.BytesIO(b"".join(audio.content for audio in made)))
    expected_count = math.ceil(count * rate_hz / NATURAL_HZ)
    assert (heard_hz, len(heard)) == (rate_hz, expected_count)
    assert sum(audio.sample_count for audio in made) == expected_count
    said = speech_like(expected_count, rate_hz) / 32_768
    lag = int(np.argmax(correlate(heard, said))) - (len(said) - 1)
    assert abs(lag) <= rate_hz / 1000
    assert np.corrcoef(heard, said)[0, 1] > 0.9


def test_first_frame_gives_headers_and_sound_at_once() -> None:
    for rate_hz, least_ms in ((24_000, 53), (8_000, 33), (48_000, 33)):
        first = open_encoder(OPUS, NATURAL_HZ, rate_hz, serial=1).push(frames(speech_like(FRAME, NATURAL_HZ))[0])
        kinds = pages(first.content)
        assert kinds[0] == (2, 0) and kinds[1] == (0, 0) and len(kinds) > 2
        assert first.content[28:36] == b"OpusHead"
        assert 1000 * first.sample_count / rate_hz > least_ms


def test_a_partial_stream_is_playable_to_its_end() -> None:
    encoder = open_encoder(OPUS, NATURAL_HZ, NATURAL_HZ, serial=1)
    content, count = b"", 0
    for frame in frames(speech_like(10 * FRAME, NATURAL_HZ)):
        audio = encoder.push(frame)
        content, count = content + audio.content, count + audio.sample_count
        decoded, _ = soundfile.read(io.BytesIO(content))
        assert len(decoded) == count
    assert 10 * FRAME - count <= NATURAL_HZ * 0.027  # look-ahead of 6.5 ms and the packet held back


def test_every_message_is_whole_pages_and_only_the_last_ends() -> None:
    made = encode(open_encoder(OPUS, NATURAL_HZ, 16_000, serial=1), frames(speech_like(24_123, NATURAL_HZ)))
    flags = [flags for audio in made for flags, _ in pages(audio.content)]
    assert flags[0] == 2 and flags[-1] == 4 and set(flags[1:-1]) == {0}
    granules = [granule for audio in made for _, granule in pages(audio.content)]
    assert granules == sorted(granules)


def test_streams_differ_in_their_serials_only() -> None:
    pieces = frames(speech_like(FRAME, NATURAL_HZ))
    one, same, other = (
        b"".join(audio.content for audio in encode(open_encoder(OPUS, NATURAL_HZ, 24_000, serial), pieces))
        for serial in (7, 7, 2**40 + 8)
    )
    assert one == same != other and len(one) == len(other)
    assert [struct.unpack_from("<I", content, 14)[0] for content in (one, other)] == [7, 8]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_noise_keeps_within_the_stated_size(rate_hz: int) -> None:
    noise = np.random.default_rng(3).normal(0, 8000, 3 * NATURAL_HZ).clip(-32_768, 32_767)
    made = encode(open_encoder(OPUS, NATURAL_HZ, rate_hz, serial=1), frames(noise))
    assert sum(len(audio.content) for audio in made) <= 3 * ENCODINGS[OPUS].bytes_per_second(rate_hz)


def test_no_samples_are_no_bytes() -> None:
    assert encode(open_encoder(OPUS, NATURAL_HZ, 24_000, serial=1), []) == [EncodedAudio(b"", 0)]


def test_encoders_start_no_threads() -> None:
    before = thread_count()
    encoders = [open_encoder(OPUS, NATURAL_HZ, rate_hz, serial=1) for rate_hz in RATES_HZ for _ in range(4)]
    affinity = os.sched_getaffinity(0)
    for encoder in encoders:
        encoder.push(bytes(2 * FRAME))
    assert thread_count() < before + len(encoders)
    assert os.sched_getaffinity(0) == affinity
