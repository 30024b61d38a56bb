"""Checks and decodes the recordings that callers send. It knows no RPC.

Samples keep the rate of the recording: the codec resamples them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain

from csm.v1 import tts_pb2

from services.common.rpc.status import FieldViolation
from services.gateway.audio.decoders import (
    LAYOUTS,
    SAMPLE_BYTES,
    AudioTooLongError,
    UnreadableAudioError,
    sample_format_of,
)
from services.gateway.audio.encodings import ENCODINGS, encoding_name
from services.gateway.audio.pieces import joined, up_to
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import ReadableFile, WavHeader
from services.gateway.requests.violations import Violations

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000
_MAX_HZ = {tts_pb2.AUDIO_ENCODING_OGG_OPUS: 48_000, tts_pb2.AUDIO_ENCODING_MP3: 48_000}  # of the decoded samples
_STARTS = {
    b"RIFF": tts_pb2.AUDIO_ENCODING_WAV,
    b"OggS": tts_pb2.AUDIO_ENCODING_OGG_OPUS,
    b"fLaC": tts_pb2.AUDIO_ENCODING_FLAC,
    b"ID3": tts_pb2.AUDIO_ENCODING_MP3,
}


def encoding_of_file(file: bytes) -> tts_pb2.AudioEncoding | None:
    """The encoding of a recording by its first bytes; None if it is no supported file."""
    for start, encoding in _STARTS.items():
        if file.startswith(start):
            return encoding
    if len(file) < 2 or file[0] != 0xFF or file[1] & 0xE0 != 0xE0:  # no frame of MPEG audio
        return None
    return tts_pb2.AUDIO_ENCODING_MP3 if file[1] & 0x06 else tts_pb2.AUDIO_ENCODING_AAC  # ADTS has layer 0


def most_decoded_bytes(recordings: Iterable[tts_pb2.AudioRecording], max_seconds: float) -> int:
    """An upper bound of the decoded bytes of all recordings together, without decoding.

    max_seconds: of all together, where decoding stops. Headerless samples and WAV show their length.
    """
    known_bytes, max_hz = 0, 0
    for recording in recordings:
        encoding = recording.audio_format.audio_encoding
        if check_format("", recording.audio_format) is not None:  # it will be refused; its channels may be negative
            continue
        try:
            content = recording.audio_content  # a copy
            layout = _layout(recording.audio_format, content)
        except UnreadableAudioError:  # it will be refused
            continue
        if layout is not None:
            size, to_format = sample_format_of(layout.codec)
            known_bytes += (
                min(len(content), layout.data_size) // (size * layout.channel_count) * SAMPLE_BYTES[to_format]
            )
        else:
            max_hz = max(max_hz, _MAX_HZ.get(encoding, MAX_SAMPLE_RATE_HZ))
    return known_bytes + int(max_seconds * max_hz) * SAMPLE_BYTES["s16"]


def read_recording(
    field: str,
    recording: tts_pb2.AudioRecording,
    violations: Violations,
    max_seconds: float,
    until_seconds: float,
) -> Recording | None:
    """The samples of `recording`; None when it is refused, with the reason added to `violations`.

    max_seconds: longest allowed recording. until_seconds: where decoding stops and the recording is cut.

    A recording that is too long by its size or header is refused without decoding. To be called in a thread, for
    minutes of Opus take a second to decode.
    """
    violation = check_format(field, recording.audio_format)
    if violation is None:
        violation = check_size(field, recording, max_seconds)
    if violation is not None:
        violations.add(violation)
        return None
    try:
        pieces = open_pieces(recording.audio_format, io.BytesIO(recording.audio_content))
        first = next(pieces, None)
        if first is not None and not is_rate(first.sample_rate_hz):  # before the rest is decoded
            violations.add(wrong_rate(field, first.sample_rate_hz))
            return None
        whole = pieces if first is None else chain((first,), pieces)
        read = joined(up_to(whole, until_seconds), max_seconds)
    except UnreadableAudioError as error:
        violations.add(unreadable(field, error))
        return None
    if not read.samples:
        violations.add(FieldViolation(f"{field}.audio_content", "holds no samples.", "AUDIO_EMPTY"))
        return None
    return read


def check_format(field: str, audio_format: tts_pb2.AudioFormat) -> FieldViolation | None:
    """The violation in the declared format of a recording; None when it is allowed. It reads no samples."""
    encoding = audio_format.audio_encoding
    if encoding not in ENCODINGS:
        known = ", ".join(map(encoding_name, ENCODINGS))
        why = f"is {encoding_name(encoding)}; it must be one of {known}."
        return FieldViolation(f"{field}.audio_format.audio_encoding", why, "UNSUPPORTED_ENCODING")
    if audio_format.channel_count not in (0, *LAYOUTS):
        why = f"is {audio_format.channel_count}; it must be 1 (mono), 2 (stereo) or unset."
        return FieldViolation(f"{field}.audio_format.channel_count", why)
    if ENCODINGS[encoding].is_headerless and not is_rate(audio_format.sample_rate_hertz):
        return wrong_rate(field, audio_format.sample_rate_hertz)
    return None


def open_pieces(audio_format: tts_pb2.AudioFormat, file: ReadableFile) -> Iterator[Recording]:
    """The samples of a recording with a checked format, in pieces. Iteration may raise UnreadableAudioError."""
    encoding = ENCODINGS[audio_format.audio_encoding]
    return encoding.open_pieces(file, audio_format.channel_count or 1, audio_format.sample_rate_hertz)


def unreadable(field: str, error: UnreadableAudioError) -> FieldViolation:
    reason = "AUDIO_TOO_LONG" if isinstance(error, AudioTooLongError) else "AUDIO_UNREADABLE"
    return FieldViolation(f"{field}.audio_content", str(error), reason)


def check_size(field: str, recording: tts_pb2.AudioRecording, max_seconds: float) -> FieldViolation | None:
    """The violation in the length of a recording; None when it is allowed, or unknown before decoding.

    Headerless samples and WAV show their length without decoding.
    """
    content = recording.audio_content
    try:
        layout = _layout(recording.audio_format, content)
    except UnreadableAudioError as error:
        return unreadable(field, error)
    if layout is None:
        return None
    if not is_rate(layout.sample_rate_hz):
        return wrong_rate(field, layout.sample_rate_hz)
    size = min(len(content), layout.data_size)
    bytes_per_second = layout.sample_rate_hz * layout.channel_count * sample_format_of(layout.codec)[0]
    if size / bytes_per_second > max_seconds:
        why = f"lasts {size / bytes_per_second:.1f} s; at most {max_seconds:g} s are allowed."
        return FieldViolation(f"{field}.audio_content", why, "AUDIO_TOO_LONG")
    return None


def _layout(audio_format: tts_pb2.AudioFormat, content: bytes) -> WavHeader | None:
    """Format and size; None if they are known only after decoding. Raises UnreadableAudioError."""
    encoding = ENCODINGS[audio_format.audio_encoding]
    return encoding.read_layout(content, audio_format.channel_count or 1, audio_format.sample_rate_hertz)


def is_rate(sample_rate_hz: int) -> bool:
    return MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ


def wrong_rate(field: str, given: int) -> FieldViolation:
    return FieldViolation(
        f"{field}.audio_format.sample_rate_hertz",
        f"is {given}; it must be {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}.",
        "UNSUPPORTED_SAMPLE_RATE",
    )
