"""The built-in voice in packet formats and at other speeds, through the whole server: the watermark is always found."""

from __future__ import annotations

import math
from collections.abc import Iterator

import csm_client
import pytest
from csm.v1 import tts_pb2

from tests.support.wav import wav_of

TEXT = "It is ten past twelve and the station is closed."
SECONDS = 2.4  # longer than a whole watermark message


@pytest.fixture(scope="module")
def client(voice_target: str) -> Iterator[csm_client.Client]:
    with csm_client.Client(voice_target, timeout_s=100) as opened:
        yield opened


@pytest.mark.parametrize("encoding", ["mp3", pytest.param("aac", marks=pytest.mark.slow), "flac"])
def test_the_mark_is_found_in_each_sent_format(client: csm_client.Client, encoding: csm_client.Encoding) -> None:
    with client.stream_synthesize(TEXT, seed=3, encoding=encoding, max_seconds=SECONDS) as stream:
        chunks = list(stream)
        assert stream.summary is not None
        assert stream.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
        assert sum(chunk.sample_count for chunk in chunks) == stream.summary.stats.sample_count
    found = client.detect_watermark(b"".join(chunk.audio_content for chunk in chunks))
    assert found.detected and found.stretches


@pytest.mark.parametrize("speed", [1.5, *(pytest.param(speed, marks=pytest.mark.slow) for speed in (0.5, 2.0))])
def test_mark_is_found_in_stretched_speech(client: csm_client.Client, speed: float) -> None:
    whole = client.synthesize(TEXT, seed=3, speed=speed, max_seconds=SECONDS)
    stats = whole.summary.stats
    assert stats.sample_count == len(whole.samples) // 2 == math.ceil(stats.frame_count * 1920 / speed)
    assert whole.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
    found = client.detect_watermark(wav_of(whole.samples, whole.sample_rate_hz))
    assert found.detected and found.stretches


def test_stretched_speech_is_the_same_in_one_message_and_in_many(client: csm_client.Client) -> None:
    whole = client.synthesize("Hello.", seed=3, speed=1.5, max_seconds=0.5)
    with client.stream_synthesize("Hello.", seed=3, speed=1.5, max_seconds=0.5) as stream:
        pieces = [chunk.audio_content for chunk in stream]
    assert len(pieces) > 1 and b"".join(pieces) == whole.samples


def test_sentence_offsets_follow_the_speed(client: csm_client.Client) -> None:
    """Each sentence has the length of its frames, and half of it at twice the speed."""
    text = "Please wait. Emma is tired."
    offsets, lengths = [], []
    for speed in (1.0, 2.0):
        with client.stream_synthesize_text(text, seed=3, speed=speed) as stream:
            heard = b"".join(chunk.audio_content for chunk in stream)
            assert stream.summary is not None
            offsets.append([sentence.sample_offset for sentence in stream.sentences])
            lengths.append(stream.summary.stats.sample_count)
            assert len(heard) == 2 * lengths[-1]
    assert offsets[0][0] == offsets[1][0] == 0 and len(offsets[0]) == len(offsets[1]) == 2
    assert offsets[1][1] == offsets[0][1] // 2 and lengths[1] == lengths[0] // 2
