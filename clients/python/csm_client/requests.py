"""Builds requests from plain values. The default encoding is PCM; the client writes WAV files itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from csm_client.tables.encodings import ENCODINGS, Encoding, encoding_of_file
from csm_client.tables.sampling import LARGEST_FLOAT, SAMPLING, SamplingOptions

Codes = rvq_pb2.CodeFrames | bytes  # open ones, or sealed ones that only the server can open

LARGE_BYTES = 256 * 1024  # larger requests are announced, so that a busy server lets them wait
LONGEST_S = 1e9  # gRPC's limit; with a longer timeout, or infinity, a call ends at once


def checked_timeout(timeout_s: float) -> float:
    """Raises ValueError."""
    if not timeout_s <= LONGEST_S:  # true for NaN too
        raise ValueError(f"timeout_s is {timeout_s}; it must be at most {LONGEST_S:g}.")
    return timeout_s


def size_metadata(request: object) -> tuple[tuple[str, str], ...]:
    """Announces the size of a large request, so that a busy server lets it wait instead of refusing it."""
    size = request.ByteSize() if isinstance(request, Message) else 0
    return (("csm-request-bytes", str(size)),) if size > LARGE_BYTES else ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the conversation so far, with its sound as an audio file or as codes of an earlier answer."""

    speaker: int
    text: str
    wav: bytes | None = None  # a WAV file (PCM, float, mu-law or A-law), Ogg Opus, MP3, AAC or FLAC; any sample rate
    codes: Codes | None = None  # of an earlier answer, as it gave them


class SpeechOptions(SamplingOptions, total=False):
    """The options of a request, in addition to sampling. The server has a default for each."""

    speaker: int
    voice: str
    language: str  # BCP-47 tag
    context: Sequence[Turn]  # oldest first
    max_seconds: float
    encoding: Encoding  # of the audio; "pcm" when unset
    sample_rate_hz: int  # of the audio; the model's own when unset
    speed: float  # of the speech, 0.25 to 4, at the same pitch; 1 when unset
    return_codes: bool
    as_one_utterance: bool  # do not split the text into sentences; not for a text in pieces
    silence_without_words: bool  # a text without words gives one frame of silence instead of an error
    request_id: str  # a UUID
    conversation_id: str  # the same for all utterances of a conversation, at most 128 characters
    labels: Mapping[str, str]


class StreamOptions(SpeechOptions, total=False):
    """The options of a streaming request."""

    chunk_seconds: float


@dataclass(frozen=True, slots=True)
class Consent:
    """The consent of the person whose voice it is."""

    id: str  # where the consent is kept
    text: str  # what the person agreed to


class VoiceOptions(TypedDict, total=False):
    """The options of a stored voice. It needs a prompt (`text`, `audio` or `codes`, and `consent`), a seed, or both."""

    text: str  # what is said in the recording
    audio: bytes  # a file of WAV, Ogg Opus, MP3, AAC or FLAC
    codes: Codes  # of an earlier answer, instead of audio, if the server allows it
    consent: Consent
    speaker: int
    languages: Sequence[str]  # BCP-47 tags
    description: str
    seed: int  # of requests that set none
    callers: Sequence[str]  # that may use it, by the names of their tokens, besides its owner
    everyone: bool  # every caller may use it


def create_voice_request(name: str, options: VoiceOptions) -> voices_pb2.CreateVoiceRequest:
    """Raises ValueError for `callers` together with `everyone`, TypeError for an unknown option."""
    check_names(options, VoiceOptions.__optional_keys__)
    request = voices_pb2.CreateVoiceRequest(
        name=name,
        speaker=options.get("speaker", 0),
        language_codes=options.get("languages", ()),
        description=options.get("description", ""),
        callers=options.get("callers", ()),
        seed=options.get("seed"),
    )
    if request.callers and options.get("everyone"):
        raise ValueError("A voice is for some callers or for everyone, not both.")
    if request.callers:
        request.audience = voices_pb2.VOICE_AUDIENCE_CALLERS
    elif options.get("everyone"):
        request.audience = voices_pb2.VOICE_AUDIENCE_EVERYONE
    if "audio" in options or "codes" in options or "text" in options:
        turn = _turn(Turn(0, options.get("text", ""), options.get("audio"), options.get("codes")))
        request.prompt.text = turn.text
        request.prompt.audio.CopyFrom(turn.audio)
    if "consent" in options:
        request.consent.id, request.consent.text = options["consent"].id, options["consent"].text
    return request


def unary_request(text: str, options: SpeechOptions) -> tts_pb2.SynthesizeRequest:
    """Raises TypeError and ValueError that name the option."""
    check_names(options, SpeechOptions.__optional_keys__)
    request = tts_pb2.SynthesizeRequest()
    _fill(request, text, options)
    return request


def stream_request(text: str, options: StreamOptions) -> tts_pb2.StreamSynthesizeRequest:
    """Raises TypeError and ValueError that name the option."""
    check_names(options, StreamOptions.__optional_keys__)
    request = tts_pb2.StreamSynthesizeRequest()
    _fill(request, text, options)
    if "chunk_seconds" in options:
        with _named("chunk_seconds", options["chunk_seconds"]):
            request.stream_config.chunk_duration.CopyFrom(_duration(options["chunk_seconds"]))
    return request


def detect_request(wav: bytes, key_ids: Sequence[str]) -> watermark_pb2.DetectWatermarkRequest:
    return watermark_pb2.DetectWatermarkRequest(recording=_recording(wav), key_ids=key_ids)


def _fill(
    request: tts_pb2.SynthesizeRequest | tts_pb2.StreamSynthesizeRequest, text: str, options: SpeechOptions
) -> None:
    with _named("text", text):
        request.input.text = text
    for name, value in options.items():
        with _named(name, value):
            _set(request, name, value)
    if request.audio_config.audio_encoding == tts_pb2.AUDIO_ENCODING_UNSPECIFIED:
        request.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM


def _set(request: tts_pb2.SynthesizeRequest | tts_pb2.StreamSynthesizeRequest, name: str, value: Any) -> None:
    match name:
        case "encoding":
            if value not in ENCODINGS:
                raise ValueError(f"it must be one of {', '.join(ENCODINGS)}")
            request.audio_config.audio_encoding = ENCODINGS[value].number
        case "sample_rate_hz":
            request.audio_config.sample_rate_hertz = value
        case "speed":
            request.audio_config.speed = value
        case "request_id" | "conversation_id" | "return_codes":
            setattr(request, name, value)
        case "labels":
            request.labels.update(value)
        case "speaker" | "as_one_utterance" | "silence_without_words":
            setattr(request.input, name, value)
        case "voice":
            request.voice.name = value
        case "language":
            request.voice.language_code = value
        case "max_seconds":
            request.max_audio_duration.CopyFrom(_duration(value))
        case "context":
            request.context.turns.extend(_turn(turn) for turn in value)
        case _ if name in SAMPLING:
            setattr(request.sampling_params, name, value)
            if LARGEST_FLOAT < abs(value) < math.inf:  # float32 would make it infinite
                raise ValueError(f"it must be {SAMPLING[name].allowed}")


def check_names(options: Mapping[str, object], known: Collection[str]) -> None:
    """Raises TypeError for an unknown option, which would have no effect."""
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"There is no option '{unknown[0]}'; the options are {', '.join(sorted(known))}.")


@contextmanager
def _named(name: str, value: object) -> Iterator[None]:
    """Adds the option's name and value to an error of protobuf; for a value that may be long, its type."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, AttributeError) as error:  # AttributeError: not a Turn
        is_short = isinstance(value, int | float | None) or name == "encoding"
        given = repr(value)[:60] if is_short else f"of type {type(value).__name__}"
        kind = TypeError if isinstance(error, TypeError | AttributeError) else ValueError
        raise kind(f"{name} is {given}: {str(error).rstrip('.')}.") from None


def _turn(turn: Turn) -> tts_pb2.Turn:
    message = tts_pb2.Turn(speaker=turn.speaker, text=turn.text)
    if turn.wav is not None and turn.codes is not None:
        raise ValueError("A recording and codes are given; one is enough.")
    if turn.wav is not None:
        message.audio.recording.CopyFrom(_recording(turn.wav))
    elif isinstance(turn.codes, bytes):
        message.audio.sealed_codes = turn.codes
    elif turn.codes is not None:
        message.audio.codes.CopyFrom(turn.codes)
    return message


def _recording(file: bytes) -> tts_pb2.AudioRecording:
    """file: WAV, Ogg Opus, MP3, AAC or FLAC"""
    return tts_pb2.AudioRecording(audio_content=file, audio_format=file_format(file))


def file_format(start: bytes) -> tts_pb2.AudioFormat:
    return tts_pb2.AudioFormat(audio_encoding=encoding_of_file(start))


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
