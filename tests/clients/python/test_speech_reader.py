"""The rules of the stream, message by message."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2
from csm_client import IncompleteAudioError, ServerError
from csm_client.errors import ErrorDetails
from csm_client.resuming.reader import SpeechReader
from csm_client.speech import from_unary

HEADER = tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(request_id="r"))
UNKNOWN = tts_pb2.StreamSynthesizeResponse()


def audio(offset: int, count: int = 2) -> tts_pb2.StreamSynthesizeResponse:
    chunk = tts_pb2.AudioChunk(audio_content=bytes(2 * count), sample_offset=offset, sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


def filled(offset: int, count: int, num_bytes: int) -> tts_pb2.StreamSynthesizeResponse:
    chunk = tts_pb2.AudioChunk(audio_content=bytes(num_bytes), sample_offset=offset, sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


def header(encoding: tts_pb2.AudioEncoding) -> tts_pb2.StreamSynthesizeResponse:
    audio_format = tts_pb2.AudioFormat(audio_encoding=encoding)
    return tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(audio_format=audio_format))


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
        ((HEADER, summary(0), summary(0)), "'summary' out of order"),
        ((HEADER, audio(0), summary(3)), "counts 3 samples, but 2 came"),
        ((HEADER, audio(0), filled(2, -2, 4), audio(0), summary(2)), "sent -2 samples"),
        ((header(tts_pb2.AUDIO_ENCODING_PCM), filled(0, 2, 3), summary(2)), "counts 2 samples, but 3 bytes came"),
        ((header(tts_pb2.AUDIO_ENCODING_MULAW), filled(0, 2, 0), summary(2)), "counts 2 samples, but 0 bytes came"),
    ],
)
def test_stream_that_is_not_whole_raises(messages: Any, sentence: str) -> None:
    with pytest.raises(IncompleteAudioError, match=sentence):
        read(*messages)


@pytest.mark.parametrize("event", ["audio_chunk", "sentence", "checkpoint", "speech_checkpoint", "summary"])
def test_a_second_call_begins_with_a_header_too(event: str) -> None:
    reader = SpeechReader()
    reader.accept(HEADER)
    reader.begin_again()
    message = tts_pb2.StreamSynthesizeTextResponse()
    getattr(message, event).SetInParent()
    with pytest.raises(IncompleteAudioError, match=f"'{event}' out of order"):
        reader.accept(message)


def test_a_second_call_has_the_same_voice_and_settings() -> None:
    reader = SpeechReader()
    reader.accept(HEADER)
    reader.begin_again()
    with pytest.raises(IncompleteAudioError, match="another model or other settings"):
        reader.accept(tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=1)))


def test_an_error_ends_with_what_keeps_the_stream_from_being_resumed() -> None:
    loss = ServerError(grpc.StatusCode.UNAVAILABLE, "It was lost.", ErrorDetails())
    for hindrance, why in (("", "It was lost."), ("It is long.", "It was lost. It is long.")):
        reader = SpeechReader()
        for message in (HEADER, audio(0)):
            reader.accept(message)
        with pytest.raises(IncompleteAudioError) as failed:
            reader.fail(loss, hindrance)
        assert str(failed.value) == f"The audio is incomplete. {why}"


def encoded(offset: int, count: int, content: bytes) -> tts_pb2.StreamSynthesizeResponse:
    chunk = tts_pb2.AudioChunk(audio_content=content, sample_offset=offset, sample_count=count)
    return tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)


def resumed(encoding: tts_pb2.AudioEncoding, *again: tts_pb2.StreamSynthesizeResponse) -> list[tuple[bytes, int, int]]:
    """The chunks of two calls: the first is lost after "abcd", its first 3 samples. again: the second one's audio"""
    header = tts_pb2.SynthesisHeader(audio_format=tts_pb2.AudioFormat(audio_encoding=encoding))
    reader, chunks = SpeechReader(), []
    first = [encoded(0, 2, b"ab"), encoded(2, 1, b"cd")]
    for messages in (first, again):
        reader.begin_again()
        for message in (tts_pb2.StreamSynthesizeResponse(header=header), *messages):
            if (chunk := reader.accept(message)) is not None:
                chunks.append((chunk.audio_content, chunk.sample_offset, chunk.sample_count))
    return chunks


@pytest.mark.parametrize("encoding", tts_pb2.AudioEncoding.values())
def test_a_second_call_continues_after_the_received_bytes_at_any_chunking(encoding: tts_pb2.AudioEncoding) -> None:
    heard = [(b"ab", 0, 2), (b"cd", 2, 1)]
    assert resumed(encoding, encoded(0, 4, b"abcde"), encoded(4, 1, b"f")) == [*heard, (b"e", 3, 1), (b"f", 4, 1)]
    assert resumed(encoding, encoded(0, 3, b"abcd"), encoded(3, 2, b"ef")) == [*heard, (b"ef", 3, 2)]
    assert resumed(encoding, encoded(0, 1, b"a"), encoded(1, 1, b"bc")) == heard


def test_compressed_audio_with_other_bytes_does_not_continue() -> None:
    with pytest.raises(IncompleteAudioError, match="encoded the audio in another way"):
        resumed(tts_pb2.AUDIO_ENCODING_MP3, encoded(0, 4, b"abXde"))
    assert resumed(tts_pb2.AUDIO_ENCODING_PCM, encoded(0, 4, b"abXde"))[-1] == (b"e", 3, 1)


def said(text: str, offset: int = 0) -> tts_pb2.StreamSynthesizeTextResponse:
    return tts_pb2.StreamSynthesizeTextResponse(sentence=tts_pb2.Sentence(text=text, sample_offset=offset))


def test_sentences_of_a_second_call_are_listed_once_and_must_be_the_same() -> None:
    reader = SpeechReader()
    for messages in (
        (HEADER, said("One."), said("Two.", 4)),
        (HEADER, said("One."), said("Two.", 4), said("Three.", 8)),
    ):
        reader.begin_again()
        for message in messages:
            reader.accept(message)
    assert [sentence.text for sentence in reader.sentences] == ["One.", "Two.", "Three."]
    reader.begin_again()
    reader.accept(HEADER)
    with pytest.raises(IncompleteAudioError, match="other sentences"):
        reader.accept(said("One. Two."))


def checkpoint(state: bytes) -> tts_pb2.StreamSynthesizeTextResponse:
    return tts_pb2.StreamSynthesizeTextResponse(checkpoint=tts_pb2.TextCheckpoint(state=state))


class LostCalls:
    """Calls of one stream, one after the other lost, that a reader hears."""

    def __init__(self, encoding: tts_pb2.AudioEncoding) -> None:
        self.reader = SpeechReader()
        self.heard = b""
        self._format = tts_pb2.AudioFormat(audio_encoding=encoding)

    def hear(self, *messages: Any, resumed: int = 0, first: int = 0, frames: int = 0, sample: int = 0) -> None:
        """The messages of the next call. resumed, first: of a text's header; frames, sample: of an utterance's"""
        self.reader.begin_again()
        header = tts_pb2.SynthesisHeader(
            audio_format=self._format,
            resumed_sentence_count=resumed,
            first_sentence_index=first,
            resumed_frame_count=frames,
            first_sample_offset=sample,
        )
        for message in (tts_pb2.StreamSynthesizeTextResponse(header=header), *messages):
            if (chunk := self.reader.accept(message)) is not None:
                assert chunk.sample_offset == len(self.heard)
                self.heard += chunk.audio_content


FLAC, MP3 = tts_pb2.AUDIO_ENCODING_FLAC, tts_pb2.AUDIO_ENCODING_MP3
BEGUN = (said("One."), encoded(0, 2, b"ab"), checkpoint(b"1"), said("Two.", 2), encoded(2, 2, b"cd"))


@pytest.mark.parametrize("encoding", [tts_pb2.AUDIO_ENCODING_MULAW, FLAC])
def test_a_text_resumes_at_its_last_checkpoint_in_several_calls(encoding: tts_pb2.AudioEncoding) -> None:
    calls = LostCalls(encoding)
    assert calls.reader.checkpoints == []
    calls.hear(*BEGUN)
    assert calls.reader.checkpoints == [b"1"]
    calls.hear(said("Two.", 2), encoded(2, 3, b"cde"), checkpoint(b"2"), resumed=1, first=1)
    assert calls.reader.checkpoints == [b"1", b"2"]
    calls.hear(said("Three.", 5), encoded(5, 1, b"f"), summary(6), resumed=2, first=2)
    calls.reader.end()
    assert calls.heard == b"abcdef" and calls.reader.sample_count == 6
    assert [sentence.text for sentence in calls.reader.sentences] == ["One.", "Two.", "Three."]


def test_a_restarted_text_has_new_checkpoints() -> None:
    """Where nothing is compressed, also those that come with what has been heard."""
    for encoding, usable in ((tts_pb2.AUDIO_ENCODING_PCM, [b"new"]), (FLAC, [])):
        calls = LostCalls(encoding)
        calls.hear(*BEGUN)
        calls.hear(said("One."), encoded(0, 2, b"ab"), checkpoint(b"new"))
        assert calls.reader.checkpoints == usable  # whether "cd" is the same could not be told any more
        calls.hear(*BEGUN, encoded(4, 1, b"e"), checkpoint(b"2"))
        assert calls.reader.checkpoints == [b"1", b"2"] and calls.heard == b"abcde"


def test_a_text_whose_encoder_restarts_keeps_its_checkpoints() -> None:
    calls = LostCalls(MP3)
    calls.hear(*BEGUN)
    for _ in range(2):
        calls.hear(said("One."), encoded(0, 2, b"ab"), resumed=1)
        assert calls.reader.checkpoints == [b"1"]
    calls.hear(*BEGUN[:2], *BEGUN[3:], encoded(4, 1, b"e"), checkpoint(b"2"), resumed=1)
    assert calls.reader.checkpoints == [b"1", b"2"] and calls.heard == b"abcde"


def test_a_text_that_resumes_differently_is_incomplete() -> None:
    for again, why in (
        ({"resumed": 1, "first": 1, "audio": b"cX"}, "another way"),
        ({"resumed": 2, "first": 2, "audio": b"cd"}, "other sentences"),
        ({"resumed": 0, "first": 1, "audio": b"cd"}, "other sentences"),
    ):
        calls = LostCalls(FLAC)
        calls.hear(*BEGUN)
        with pytest.raises(IncompleteAudioError, match=why):
            calls.hear(encoded(2, 2, again["audio"]), resumed=again["resumed"], first=again["first"])  # type: ignore[arg-type]


def state(content: bytes) -> tts_pb2.StreamSynthesizeResponse:
    return tts_pb2.StreamSynthesizeResponse(checkpoint=tts_pb2.SpeechCheckpoint(state=content))


HALF = (encoded(0, 2, b"ab"), state(b"1"), encoded(2, 2, b"cd"))


@pytest.mark.parametrize("encoding", [tts_pb2.AUDIO_ENCODING_MULAW, FLAC])
def test_an_utterance_resumes_at_its_last_checkpoint_in_several_calls(encoding: tts_pb2.AudioEncoding) -> None:
    calls = LostCalls(encoding)
    calls.hear(*HALF)
    assert calls.reader.checkpoints == [b"1"]
    calls.hear(encoded(2, 3, b"cde"), state(b"2"), frames=7, sample=2)
    assert calls.reader.checkpoints == [b"1", b"2"]
    calls.hear(encoded(5, 1, b"f"), summary(6), frames=9, sample=5)
    calls.reader.end()
    assert calls.heard == b"abcdef" and calls.reader.sample_count == 6


def test_an_utterance_whose_encoder_restarts_keeps_and_adds_checkpoints() -> None:
    calls = LostCalls(MP3)
    calls.hear(*HALF)
    calls.hear(encoded(0, 2, b"ab"), state(b"2"), frames=7)
    assert calls.reader.checkpoints == [b"1", b"2"]
    calls.hear(encoded(0, 5, b"abcde"), frames=9)
    assert calls.reader.checkpoints == [b"1", b"2"] and calls.heard == b"abcde"
    calls.hear(encoded(0, 2, b"ab"), state(b"new"))  # from the start
    assert calls.reader.checkpoints == [b"new"]


def test_an_utterance_that_resumes_differently_is_incomplete() -> None:
    for again, content, why in (
        ({"frames": 7, "sample": 2}, b"cX", "another way"),
        ({"frames": 7, "sample": 1}, b"cd", "other checkpoints"),
        ({"frames": 0, "sample": 3}, b"cd", "other checkpoints"),
    ):
        calls = LostCalls(FLAC)
        calls.hear(*HALF)
        with pytest.raises(IncompleteAudioError, match=why):
            calls.hear(encoded(2, 2, content), **again)
    with pytest.raises(IncompleteAudioError, match="other checkpoints"):
        LostCalls(FLAC).hear(frames=1)


@pytest.mark.parametrize("num_bytes", [0, 3])
def test_an_answer_in_one_message_holds_the_audio_that_it_counts(num_bytes: int) -> None:
    audio_format = tts_pb2.AudioFormat(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000)
    counted = tts_pb2.SynthesisSummary(stats=tts_pb2.SynthesisStats(sample_count=2))
    answer = tts_pb2.SynthesizeResponse(audio_content=bytes(num_bytes), audio_format=audio_format, summary=counted)
    with pytest.raises(IncompleteAudioError, match=f"counts 2 samples, but {num_bytes} bytes came"):
        from_unary(answer)
    with pytest.raises(IncompleteAudioError):
        from_unary(tts_pb2.SynthesizeResponse())
