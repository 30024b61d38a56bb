"""The rules of the stream, message by message."""

from __future__ import annotations

from typing import Any

import pytest
from csm.v1 import tts_pb2
from csm_client import IncompleteAudioError
from csm_client.speech import SpeechReader

HEADER = tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(request_id="r"))
UNKNOWN = tts_pb2.StreamSynthesizeResponse()


def audio(offset: int, count: int = 2) -> tts_pb2.StreamSynthesizeResponse:
    chunk = tts_pb2.AudioChunk(audio_content=bytes(2 * count), sample_offset=offset, sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


def summary(count: int) -> tts_pb2.StreamSynthesizeResponse:
    stats = tts_pb2.SynthesisStats(sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary(stats=stats))


def read(*messages: tts_pb2.StreamSynthesizeResponse) -> SpeechReader:
    reader = SpeechReader()
    for message in messages:
        reader.accept(message)
    reader.end()
    return reader


def test_whole_stream_passes_and_unknown_events_are_skipped() -> None:
    assert read(HEADER, UNKNOWN, audio(0), UNKNOWN, audio(2), summary(4), UNKNOWN).sample_count == 4
    assert read(HEADER, summary(0)).sample_count == 0


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ((), "without its summary"),
        ((HEADER, audio(0)), "without its summary"),
        ((HEADER, audio(0), audio(4)), "from sample 2 to 4 is missing"),
        ((HEADER, audio(1)), "from sample 0 to 1 is missing"),
        ((audio(0),), "'audio_chunk' out of order"),
        ((HEADER, HEADER), "'header' out of order"),
        ((HEADER, summary(0), audio(0)), "'audio_chunk' out of order"),
        ((HEADER, audio(0), summary(3)), "counts 3 samples, but 2 came"),
    ],
)
def test_stream_that_is_not_whole_raises(messages: Any, sentence: str) -> None:
    with pytest.raises(IncompleteAudioError, match=sentence):
        read(*messages)
