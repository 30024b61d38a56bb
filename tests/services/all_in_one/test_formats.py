"""The built-in voice in the formats of packets, through the whole server: the mark is found in each."""

from __future__ import annotations

from collections.abc import Iterator

import csm_client
import pytest
from csm.v1 import tts_pb2

TEXT = "It is ten past twelve and the station is closed. Please walk until Monday, because Emma is tired."


@pytest.fixture(scope="module")
def client(voice_target: str) -> Iterator[csm_client.Client]:
    with csm_client.Client(voice_target, timeout_s=100) as opened:
        yield opened


@pytest.mark.parametrize("encoding", ["mp3", "aac", "flac"])
def test_mark_is_found_in_what_was_sent(client: csm_client.Client, encoding: csm_client.Encoding) -> None:
    with client.stream_synthesize(TEXT, seed=3, encoding=encoding, max_seconds=6) as stream:
        chunks = list(stream)
        assert stream.summary is not None
        assert stream.summary.watermark.coverage == tts_pb2.WATERMARK_COVERAGE_FULL
        assert sum(chunk.sample_count for chunk in chunks) == stream.summary.stats.sample_count
    found = client.detect_watermark(b"".join(chunk.audio_content for chunk in chunks))
    assert found.detected and found.stretches
