"""Checks a stream message by message: header, chunks without gaps, summary, end. It knows no channel.

After a loss, another call repeats the stream from its start, or resumes it after the last checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NoReturn

from csm.v1 import tts_pb2

from csm_client.errors import IncompleteAudioError, ServerError
from csm_client.speech import SAMPLE_SIZES, Speech

_UNCOMPRESSED = {*SAMPLE_SIZES, tts_pb2.AUDIO_ENCODING_WAV}


def _audio_identity(header: tts_pb2.SynthesisHeader) -> tuple[object, ...]:
    """The fields of a header that determine the samples."""
    return header.model_version, header.seed, header.voice, header.audio_format.SerializeToString()


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint, and its place in the stream: the samples, bytes and sentences before it."""

    state: bytes
    position: int
    byte_position: int
    sentences: int


class _Checkpoints:
    """The checkpoints of one kind, in order."""

    def __init__(self) -> None:
        self.all: list[_Checkpoint] = []
        self.digest_since: Any = None  # of the bytes since the last one; None if unknown

    def add(self, checkpoint: _Checkpoint, *, is_at_end: bool) -> None:
        """is_at_end: no call has received bytes after it"""
        self.all.append(checkpoint)
        self.digest_since = hashlib.sha256() if is_at_end else None

    def clear(self) -> None:
        self.all.clear()
        self.digest_since = None

    def update(self, content: bytes) -> None:
        if self.digest_since is not None:
            self.digest_since.update(content)

    def states(self, *, checked: bool) -> list[bytes]:
        """checked: only if repeated bytes can be compared with those received before"""
        return [] if checked and self.digest_since is None else [checkpoint.state for checkpoint in self.all]


class SpeechReader:
    """Checks the order of the messages of one stream, and that it is complete."""

    def __init__(self) -> None:
        self.header: tts_pb2.SynthesisHeader | None = None
        self.summary: tts_pb2.SynthesisSummary | None = None
        self.sentences: list[tts_pb2.Sentence] = []
        self.sample_count = 0
        self._num_bytes = 0  # received, in all calls together
        self._digest = hashlib.sha256()  # of these bytes
        self._checkpoints = _Checkpoints()  # of a text: after its sentences
        self._inside = _Checkpoints()  # of a text: inside the sentence after those
        self.begin_again()

    def begin_again(self) -> None:
        """Expects another call, which repeats the stream from its start or from its last checkpoint. Audio that was
        received before is dropped.
        """
        self.summary = None
        self._has_header = False
        self._position = self._byte_position = self._num_sentences = 0
        self._repeated = hashlib.sha256()  # of bytes that an earlier call has received
        self._expected: Any = self._digest  # the digest that they must have

    @property
    def checkpoints(self) -> list[bytes]:
        """States from which another call can resume. Empty for FLAC if its bytes could not be compared, for a FLAC
        stream must continue bit for bit.
        """
        return self._checkpoints.states(checked=self._encoding == tts_pb2.AUDIO_ENCODING_FLAC)

    @property
    def speech_checkpoints(self) -> list[bytes]:
        """The same for the sentence after those of `checkpoints`. Empty without these."""
        if len(self.checkpoints) < len(self._checkpoints.all):
            return []
        return self._inside.states(checked=self._encoding == tts_pb2.AUDIO_ENCODING_FLAC)

    def accept(
        self, message: tts_pb2.StreamSynthesizeResponse | tts_pb2.StreamSynthesizeTextResponse
    ) -> tts_pb2.AudioChunk | None:
        """The audio of a message, if it has any. Raises IncompleteAudioError for a gap or a wrong order."""
        match message.WhichOneof("event"):
            case "header" if not self._has_header:
                self._accept_header(message.header)
            case "audio_chunk" if self._has_header and self.summary is None:
                return self._accept_audio(message.audio_chunk)
            case "summary" if self._has_header and self.summary is None:
                self.summary = message.summary
            case "sentence" if self._has_header and self.summary is None:
                assert isinstance(message, tts_pb2.StreamSynthesizeTextResponse)
                self._accept_sentence(message.sentence)
            case "checkpoint" if self._has_header and self.summary is None:
                self._inside.clear()
                self._accept_checkpoint(self._checkpoints, message.checkpoint.state)
            case "speech_checkpoint" if self._has_header and self.summary is None:
                assert isinstance(message, tts_pb2.StreamSynthesizeTextResponse)
                self._accept_checkpoint(self._inside, message.speech_checkpoint.state)
            case None:
                pass  # an event of a newer server
            case event:
                raise self._incomplete(f"The server sent '{event}' out of order.")
        return None

    def _accept_header(self, header: tts_pb2.SynthesisHeader) -> None:
        self._has_header = True
        if self.header is None:
            self.header = header
        elif _audio_identity(header) != _audio_identity(self.header):
            raise self._incomplete("The server that went on has another model or other settings.")
        resumed, first = header.resumed_sentence_count, header.first_sentence_index
        if resumed not in (0, len(self.checkpoints)) or first not in (0, resumed):
            raise self._incomplete("The server that went on knows other sentences.")
        frames, sample = header.resumed_frame_count, header.first_sample_offset
        inside, sent = (
            (self._inside, self.speech_checkpoints) if self.sentences else (self._checkpoints, self.checkpoints)
        )
        if (frames or sample) and (not sent or sample not in (0, inside.all[-1].position)):
            raise self._incomplete("The server that went on knows other checkpoints.")
        if sample or first:
            self._resume_at(inside if sample else self._checkpoints)
        if not frames:  # the server starts over, and its checkpoints replace the earlier ones
            self._inside.clear()
            if not resumed:
                self._checkpoints.clear()

    def _resume_at(self, checkpoints: _Checkpoints) -> None:
        """The stream continues after the last of these."""
        last = checkpoints.all[-1]
        self._position, self._byte_position, self._num_sentences = last.position, last.byte_position, last.sentences
        self._expected = checkpoints.digest_since

    def _accept_checkpoint(self, checkpoints: _Checkpoints, state: bytes) -> None:
        place = _Checkpoint(state, self._position, self._byte_position, self._num_sentences)
        checkpoints.add(place, is_at_end=self._byte_position == self._num_bytes)

    def _accept_sentence(self, sentence: tts_pb2.Sentence) -> None:
        if self._num_sentences == len(self.sentences):
            self.sentences.append(sentence)
        elif sentence != self.sentences[self._num_sentences]:
            raise self._incomplete("The server that went on cuts the text into other sentences.")
        self._num_sentences += 1

    def _accept_audio(self, chunk: tts_pb2.AudioChunk) -> tts_pb2.AudioChunk | None:
        if chunk.sample_offset != self._position:
            raise self._incomplete(f"Audio from sample {self._position} to {chunk.sample_offset} is missing.")
        if chunk.sample_count < 0:
            raise self._incomplete(f"The server sent {chunk.sample_count} samples.")
        content = chunk.audio_content
        num_repeated = min(len(content), self._num_bytes - self._byte_position)
        self._position += chunk.sample_count
        self._byte_position += len(content)
        if num_repeated > 0:
            self._repeated.update(content[:num_repeated])
            if self._byte_position >= self._num_bytes:
                self._check_repeated()
            if num_repeated == len(content):
                return None
            chunk = tts_pb2.AudioChunk(
                audio_content=content[num_repeated:],
                sample_offset=self.sample_count,
                sample_count=self._position - self.sample_count,
            )
        self._digest.update(chunk.audio_content)
        self._checkpoints.update(chunk.audio_content)
        self._inside.update(chunk.audio_content)
        self._num_bytes += len(chunk.audio_content)
        self.sample_count += chunk.sample_count
        return chunk

    def _check_repeated(self) -> None:
        """Compressed audio must continue bit for bit, because its decoder depends on the earlier bytes."""
        if self._encoding not in _UNCOMPRESSED and self._repeated.digest() != self._expected.digest():
            raise self._incomplete("The server that went on has encoded the audio in another way.")

    @property
    def _encoding(self) -> tts_pb2.AudioEncoding | None:
        return None if self.header is None else self.header.audio_format.audio_encoding

    def end(self) -> None:
        """To be called when the stream has ended with OK. Raises IncompleteAudioError without a summary."""
        if self.summary is None:
            raise self._incomplete("The stream ended without its summary.")
        if self.summary.stats.sample_count != self.sample_count:
            raise self._incomplete(
                f"The server counts {self.summary.stats.sample_count} samples, but {self.sample_count} came."
            )
        size = SAMPLE_SIZES.get(self._encoding or 0)
        if size and self._num_bytes != size * self.sample_count:
            raise self._incomplete(f"The server counts {self.sample_count} samples, but {self._num_bytes} bytes came.")

    def fail(self, error: ServerError, hindrance: str = "") -> NoReturn:
        """Raises `error`, or IncompleteAudioError from it if audio has come.

        hindrance: why the stream was not resumed at another server
        """
        if not self.sample_count:
            raise error from None
        raise self._incomplete(f"{error} {hindrance}".rstrip()) from error

    def _incomplete(self, why: str) -> IncompleteAudioError:
        return IncompleteAudioError(f"The audio is incomplete. {why}", self.sample_count)

    def speech(self, samples: bytes) -> Speech:
        """The whole utterance, after `end`. Raises IncompleteAudioError if `samples` are not all of it."""
        if len(samples) != self._num_bytes:
            raise self._incomplete("A part of it was read before.")
        assert self.header is not None and self.summary is not None
        return Speech(samples, self.header, self.summary)
