"""The answers of a synthesis: a whole utterance, or a stream checked message by message. It knows no channel.

`SpeechReader` checks the rules of the stream (header, chunks without gaps, summary, end) for both clients.
`Resumes` decides whether a lost stream is requested again: the same request with the same seed gives the same samples,
and so does a text whose pieces are the same. A text goes on behind the last sentence that the server sent a checkpoint
of, if the next server can open it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from csm.v1 import tts_pb2

from csm_client.errors import IncompleteAudioError, ServerError
from csm_client.requests import LARGE_BYTES, Codes
from csm_client.text_writer import MOST_KEPT_BYTES, TextWriter


@dataclass(frozen=True, slots=True)
class Speech:
    """A whole utterance."""

    samples: bytes  # mono, 16-bit little-endian; bytes of another encoding when one was asked for
    header: tts_pb2.SynthesisHeader
    summary: tts_pb2.SynthesisSummary

    @property
    def sample_rate_hz(self) -> int:
        return self.header.audio_format.sample_rate_hertz

    @property
    def duration_s(self) -> float:
        return self.summary.stats.sample_count / self.sample_rate_hz

    @property
    def codes(self) -> Codes | None:
        """For a turn of a later context; None unless the request asked for them."""
        return codes_of(self.summary)


def codes_of(summary: tts_pb2.SynthesisSummary) -> Codes | None:
    """Sealed or open, as the server returns them."""
    if summary.sealed_codes:
        return summary.sealed_codes
    return summary.codes if summary.HasField("codes") else None


def from_unary(response: tts_pb2.SynthesizeResponse) -> Speech:
    header = tts_pb2.SynthesisHeader(
        request_id=response.request_id,
        audio_format=response.audio_format,
        voice=response.voice,
        model_version=response.model_version,
        seed=response.seed,
    )
    return Speech(response.audio_content, header, response.summary)


def _sound_of(header: tts_pb2.SynthesisHeader) -> tuple[object, ...]:
    """The parts of a header that must match for the samples to be the same."""
    return header.model_version, header.seed, header.voice, header.audio_format.SerializeToString()


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A place in the stream of a text, behind a sentence."""

    state: bytes
    position: int  # of the next sample
    byte_position: int
    sentences: int  # so far


class SpeechReader:
    """Checks the messages of one stream in order, and whether the stream is complete."""

    def __init__(self) -> None:
        self.header: tts_pb2.SynthesisHeader | None = None
        self.summary: tts_pb2.SynthesisSummary | None = None
        self.sentences: list[tts_pb2.Sentence] = []
        self.sample_count = 0
        self._num_bytes = 0
        self._digest = hashlib.sha256()  # of these bytes
        self._checkpoints: list[_Checkpoint] = []
        self._digest_since: Any = None  # of the bytes since the last checkpoint; None if not all of them are known
        self.begin_again()

    def begin_again(self) -> None:
        """Starts another call, which repeats the stream from its start or from its last checkpoint. What was received
        before is dropped.
        """
        self.summary = None
        self._has_header = False
        self._position = self._byte_position = self._num_sentences = 0
        self._repeated = hashlib.sha256()  # of the bytes that had come before
        self._expected: Any = self._digest  # what it must come to

    @property
    def checkpoints(self) -> list[bytes]:
        """States with which another call can go on; none where it could not be checked that the audio is the same."""
        if self._digest_since is None and self._is_compressed:
            return []
        return [checkpoint.state for checkpoint in self._checkpoints]

    def accept(
        self, message: tts_pb2.StreamSynthesizeResponse | tts_pb2.StreamSynthesizeTextResponse
    ) -> tts_pb2.AudioChunk | None:
        """The audio of a message, if it has any. Raises IncompleteAudioError for a gap or a wrong order."""
        match message.WhichOneof("event"):
            case "header" if not self._has_header:
                self._accept_header(message.header)
            case "audio_chunk" if self._has_header and self.summary is None:
                return self._accept_audio(message.audio_chunk)
            case "summary" if self._has_header and self.header is not None and self.summary is None:
                self.summary = message.summary
            case "sentence" if self.header is not None and self.summary is None:
                assert isinstance(message, tts_pb2.StreamSynthesizeTextResponse)
                self._accept_sentence(message.sentence)
            case "checkpoint" if self.header is not None and self.summary is None:
                assert isinstance(message, tts_pb2.StreamSynthesizeTextResponse)
                self._accept_checkpoint(message.checkpoint)
            case None:
                pass  # an event of a newer server
            case event:
                raise self._incomplete(f"The server sent '{event}' out of order.")
        return None

    def _accept_header(self, header: tts_pb2.SynthesisHeader) -> None:
        self._has_header = True
        if self.header is None:
            self.header = header
        elif _sound_of(header) != _sound_of(self.header):
            raise self._incomplete("The server that went on has another model or other settings.")
        resumed, first = header.resumed_sentence_count, header.first_sentence_index
        if resumed not in (0, len(self.checkpoints)) or first not in (0, resumed):
            raise self._incomplete("The server that went on knows other sentences.")
        if not resumed:
            self._checkpoints.clear()  # its own take their place
        if first:
            last = self._checkpoints[-1]
            self._position, self._byte_position, self._num_sentences = last.position, last.byte_position, last.sentences
            self._expected = self._digest_since

    def _accept_checkpoint(self, checkpoint: tts_pb2.TextCheckpoint) -> None:
        place = _Checkpoint(checkpoint.state, self._position, self._byte_position, self._num_sentences)
        self._checkpoints.append(place)
        self._digest_since = hashlib.sha256() if self._byte_position == self._num_bytes else None

    def _accept_sentence(self, sentence: tts_pb2.Sentence) -> None:
        if self._num_sentences == len(self.sentences):
            self.sentences.append(sentence)
        elif sentence != self.sentences[self._num_sentences]:
            raise self._incomplete("The server that went on cuts the text into other sentences.")
        self._num_sentences += 1

    def _accept_audio(self, chunk: tts_pb2.AudioChunk) -> tts_pb2.AudioChunk | None:
        if chunk.sample_offset != self._position:
            raise self._incomplete(f"Audio from sample {self._position} to {chunk.sample_offset} is missing.")
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
        if self._digest_since is not None:
            self._digest_since.update(chunk.audio_content)
        self._num_bytes += len(chunk.audio_content)
        self.sample_count += chunk.sample_count
        return chunk

    def _check_repeated(self) -> None:
        """Compressed audio continues bit for bit or not at all: a decoder needs what came before."""
        if self._is_compressed and self._repeated.digest() != self._expected.digest():
            raise self._incomplete("The server that went on has encoded the audio in another way.")

    @property
    def _is_compressed(self) -> bool:
        return self.header is not None and self.header.audio_format.audio_encoding not in _UNCOMPRESSED

    def end(self) -> None:
        """The stream ended with OK. Raises IncompleteAudioError when no summary came."""
        if self.summary is None:
            raise self._incomplete("The stream ended without its summary.")
        if self.summary.stats.sample_count != self.sample_count:
            raise self._incomplete(
                f"The server counts {self.summary.stats.sample_count} samples, but {self.sample_count} came."
            )

    def fail(self, error: ServerError, hindrance: str = "") -> NoReturn:
        """The stream ended with `error`. Raises it; once audio has come, IncompleteAudioError from it.

        hindrance: why the stream did not go on at another server
        """
        if not self.sample_count:
            raise error from None
        raise self._incomplete(f"{error} {hindrance}".rstrip()) from error

    def _incomplete(self, why: str) -> IncompleteAudioError:
        return IncompleteAudioError(f"The audio is incomplete. {why}", self.sample_count)

    def speech(self, samples: bytes) -> Speech:
        """The whole utterance, after `end`."""
        assert self.header is not None and self.summary is not None
        return Speech(samples, self.header, self.summary)


DEFAULT_RESUMES = 3
FIRST_DELAY_S, MOST_DELAY_S = 0.1, 2.0  # before a call is opened again; twice as long each time

# The message of grpc.aio when a write met the end of the call. The true status is lost.
_CUT_OFF_WRITE = "Internal error from Core"
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_NEVER_REACHED = ("last error: ", "errors resolving ")  # in messages of gRPC: no server was there to be lost
_UNCOMPRESSED = {
    tts_pb2.AUDIO_ENCODING_PCM,
    tts_pb2.AUDIO_ENCODING_WAV,
    tts_pb2.AUDIO_ENCODING_MULAW,
    tts_pb2.AUDIO_ENCODING_ALAW,
}


@dataclass(frozen=True, slots=True)
class NextCall:
    """The next call after a loss."""

    request: Any
    timeout_s: float
    delay_s: float  # before it is opened


class Resumes:
    """How often one call may still be made again, and until when."""

    def __init__(
        self,
        request: Any,
        most: int,
        timeout_s: float,
        writer: TextWriter | None = None,
    ) -> None:
        """request: a text's is its configuration. most: calls beside the first. timeout_s: of all calls together"""
        self.hindrance = ""  # why the last loss ended the stream, if the cause is not the loss itself
        self._request = request
        self._most = most
        self._writer = writer
        self._count = 0
        self._loss: ServerError | None = None  # the first since new audio came
        self._lost_at = -1  # sample
        self._until_s = time.monotonic() + timeout_s

    def after(self, error: ServerError, reader: SpeechReader) -> NextCall | None:
        """The next call after the loss `error`; the reader then expects it. None when the stream cannot be resumed."""
        left_s = self._until_s - time.monotonic()
        if not self._is_loss(error, reader) or self._count >= self._most or left_s <= 0:
            return None
        if self._writer is not None and not self._writer.begin_again():
            self.hindrance = f"A text of over {MOST_KEPT_BYTES // 1024} KiB does not go on at another server."
            return None
        self._count += 1
        if reader.sample_count > self._lost_at:
            self._loss, self._lost_at = error, reader.sample_count
        if reader.header is not None:
            self._request.sampling_params.seed = reader.header.seed
            self._request.stream_config.heard_sample_count = reader.sample_count
        if self._writer is not None:
            del self._request.stream_config.checkpoints[:]
            self._request.stream_config.checkpoints.extend(reader.checkpoints)
        reader.begin_again()
        asked_s = error.retry_delay_s or 0.0
        delay_s = min(MOST_DELAY_S, max(asked_s, FIRST_DELAY_S * 2 ** (self._count - 1)), left_s)
        return NextCall(self._request, left_s - delay_s, delay_s)

    def _is_loss(self, error: ServerError, reader: SpeechReader) -> bool:
        """Before the header, a status without a reason, or of a request too large for gRPC's retries."""
        if self._writer is not None and str(error) == _CUT_OFF_WRITE:
            return True
        if error.code not in _LOST or reader.header is not None:
            return error.code in _LOST
        was_reached = not any(words in str(error) for words in _NEVER_REACHED)
        return was_reached and (error.reason == error.code.name or self._request.ByteSize() > LARGE_BYTES)

    def cause(self, error: ServerError, reader: SpeechReader) -> ServerError:
        """The error to report when `error` ends the attempts to resume: the first loss since new audio came."""
        return self._loss if self._loss is not None and reader.sample_count == self._lost_at > 0 else error
