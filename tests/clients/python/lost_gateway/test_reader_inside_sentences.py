"""The rules of a text's stream that goes on inside of a sentence, message by message."""

from __future__ import annotations

import pytest
from csm.v1 import tts_pb2
from csm_client import IncompleteAudioError

from tests.clients.python.test_speech_reader import BEGUN, FLAC, MP3, LostCalls, checkpoint, encoded, said, summary


def place(content: bytes) -> tts_pb2.StreamSynthesizeTextResponse:
    return tts_pb2.StreamSynthesizeTextResponse(speech_checkpoint=tts_pb2.SpeechCheckpoint(state=content))


INSIDE = (*BEGUN, place(b"a"), encoded(4, 2, b"ef"))  # two samples behind a place in the second sentence


@pytest.mark.parametrize("encoding", [tts_pb2.AUDIO_ENCODING_MULAW, FLAC])
def test_a_text_resumes_inside_a_sentence_in_several_calls(encoding: tts_pb2.AudioEncoding) -> None:
    """Nor is that sentence announced again. Its end takes the place of all within it."""
    calls = LostCalls(encoding)
    calls.hear(*INSIDE)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], [b"a"])
    calls.hear(encoded(4, 3, b"efg"), place(b"b"), encoded(7, 1, b"h"), resumed=1, first=1, frames=3, sample=4)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], [b"a", b"b"])
    calls.hear(encoded(7, 2, b"hi"), checkpoint(b"2"), said("Three.", 9), resumed=1, first=1, frames=5, sample=7)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1", b"2"], [])
    calls.hear(said("Three.", 9), encoded(9, 1, b"j"), summary(10), resumed=2, first=2)
    calls.reader.end()
    assert calls.heard == b"abcdefghij" and len(calls.reader.sentences) == 3


@pytest.mark.parametrize("encoding", [tts_pb2.AUDIO_ENCODING_PCM, FLAC])
def test_a_text_resumes_inside_its_first_sentence(encoding: tts_pb2.AudioEncoding) -> None:
    calls = LostCalls(encoding)
    calls.hear(said("One."), encoded(0, 2, b"ab"), place(b"a"), encoded(2, 2, b"cd"))
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([], [b"a"])
    calls.hear(encoded(2, 3, b"cde"), checkpoint(b"1"), frames=3, sample=2)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], [])
    assert calls.heard == b"abcde" and len(calls.reader.sentences) == 1


@pytest.mark.parametrize("encoding", [tts_pb2.AUDIO_ENCODING_PCM, FLAC])
@pytest.mark.parametrize("frames", [0, 3], ids=["an older server", "at another speed"])
def test_a_text_may_resume_before_the_lost_sentence(encoding: tts_pb2.AudioEncoding, frames: int) -> None:
    """A server that made the sentence again has places of its own in it, which take the place of the others."""
    calls = LostCalls(encoding)
    calls.hear(*INSIDE)
    calls.hear(said("Two.", 2), encoded(2, 5, b"cdefg"), resumed=1, first=1, frames=frames)
    kept = [b"a"] if frames else []
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], kept)
    calls.hear(said("Two.", 2), encoded(2, 6, b"cdefgh"), place(b"n"), resumed=1, first=1, frames=frames)
    assert calls.reader.speech_checkpoints == [*kept, b"n"] and calls.heard == b"abcdefgh"


def test_a_text_whose_encoder_restarts_keeps_its_speech_checkpoints() -> None:
    calls = LostCalls(MP3)
    calls.hear(*INSIDE)
    calls.hear(*INSIDE[:2], INSIDE[3], resumed=1, frames=3)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], [b"a"])
    calls.hear(said("One."), encoded(0, 2, b"ab"))  # from the start, at a server without the key
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([], [])


def test_speech_checkpoints_are_not_sent_without_the_sentences_before() -> None:
    """FLAC, made from the start by a server without the key: what lies behind the first sentence cannot be checked."""
    calls = LostCalls(FLAC)
    calls.hear(*INSIDE)
    calls.hear(*BEGUN[:2], checkpoint(b"new"), said("Two.", 2), encoded(2, 5, b"cdefg"), place(b"n"))
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([], [])
    calls = LostCalls(tts_pb2.AUDIO_ENCODING_PCM)
    calls.hear(*INSIDE)
    calls.hear(*BEGUN[:2], checkpoint(b"new"), said("Two.", 2), encoded(2, 5, b"cdefg"), place(b"n"))
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"new"], [b"n"])


def test_speech_checkpoints_within_received_compressed_audio_are_dropped() -> None:
    calls = LostCalls(FLAC)
    calls.hear(*INSIDE)
    calls.hear(said("Two.", 2), encoded(2, 2, b"cd"), place(b"n"), encoded(4, 1, b"e"), resumed=1, first=1)
    assert (calls.reader.checkpoints, calls.reader.speech_checkpoints) == ([b"1"], [])
    with pytest.raises(IncompleteAudioError, match="other checkpoints"):
        calls.hear(encoded(4, 2, b"ef"), resumed=1, first=1, frames=3, sample=4)


def test_a_text_that_resumes_differently_inside_its_sentence_is_incomplete() -> None:
    for again, content, why in (
        ({"resumed": 1, "first": 1, "frames": 3, "sample": 4}, b"eX", "another way"),
        ({"resumed": 1, "first": 1, "frames": 3, "sample": 2}, b"ef", "other checkpoints"),
        ({"resumed": 1, "first": 1, "frames": 0, "sample": 5}, b"ef", "other checkpoints"),
        ({"resumed": 2, "first": 2, "frames": 3, "sample": 4}, b"ef", "other sentences"),
    ):
        calls = LostCalls(FLAC)
        calls.hear(*INSIDE)
        with pytest.raises(IncompleteAudioError, match=why):
            calls.hear(encoded(4, 2, content), **again)
    calls = LostCalls(FLAC)
    calls.hear(*BEGUN)
    with pytest.raises(IncompleteAudioError, match="other checkpoints"):
        calls.hear(resumed=1, first=1, frames=3, sample=2)  # of a place that it never told
