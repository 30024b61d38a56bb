"""Recordings that callers send: checked and turned into what the codec takes. Any sample rate passes; the codec
resamples. It knows no RPC.
"""

from __future__ import annotations

from csm.v1 import tts_pb2

from services.common.rpc.status import FieldViolation
from services.gateway.audio.decoders import LAYOUTS, UnreadableAudioError, decode_ogg_opus, decode_samples
from services.gateway.audio.formats import ENCODINGS, encoding_name
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import read_wav

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000

_HEADERLESS = {
    tts_pb2.AUDIO_ENCODING_PCM: "pcm_s16le",
    tts_pb2.AUDIO_ENCODING_MULAW: "pcm_mulaw",
    tts_pb2.AUDIO_ENCODING_ALAW: "pcm_alaw",
}


def read_recording(field: str, recording: tts_pb2.AudioRecording, violations: list[FieldViolation]) -> Recording | None:
    """The samples of `recording`; None after adding to `violations` what is wrong with it.

    Minutes of Opus take a second: not for the event loop's thread.
    """
    audio_format = recording.audio_format
    encoding = audio_format.audio_encoding
    if encoding not in ENCODINGS:
        known = ", ".join(map(encoding_name, ENCODINGS))
        why = f"is {encoding_name(encoding)}; it must be one of {known}."
        violations.append(FieldViolation(f"{field}.audio_format.audio_encoding", why, "UNSUPPORTED_ENCODING"))
        return None
    if audio_format.channel_count not in (0, *LAYOUTS):
        why = f"is {audio_format.channel_count}; recordings must be mono or stereo."
        violations.append(FieldViolation(f"{field}.audio_format.channel_count", why))
        return None
    if encoding in _HEADERLESS and not _is_rate(audio_format.sample_rate_hertz):
        violations.append(_wrong_rate(field, audio_format.sample_rate_hertz))
        return None
    try:
        read = _decode(recording)
    except UnreadableAudioError as error:
        violations.append(FieldViolation(f"{field}.audio_content", str(error), "AUDIO_UNREADABLE"))
        return None
    if not _is_rate(read.sample_rate_hz):
        violations.append(_wrong_rate(field, read.sample_rate_hz))
        return None
    if not read.samples:
        violations.append(FieldViolation(f"{field}.audio_content", "holds no samples.", "AUDIO_EMPTY"))
        return None
    return read


def _decode(recording: tts_pb2.AudioRecording) -> Recording:
    """Raises UnreadableAudioError."""
    content, audio_format = recording.audio_content, recording.audio_format
    encoding = audio_format.audio_encoding
    if encoding == tts_pb2.AUDIO_ENCODING_WAV:
        return read_wav(content)
    if encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS:
        return decode_ogg_opus(content)
    channels = audio_format.channel_count or 1
    block = channels * (2 if encoding == tts_pb2.AUDIO_ENCODING_PCM else 1)
    if len(content) % block:
        raise UnreadableAudioError(f"holds {len(content)} bytes, which is not a whole number of {block}-byte samples.")
    return decode_samples(_HEADERLESS[encoding], content, channels, audio_format.sample_rate_hertz)


def _is_rate(sample_rate_hz: int) -> bool:
    return MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ


def _wrong_rate(field: str, given: int) -> FieldViolation:
    return FieldViolation(
        f"{field}.audio_format.sample_rate_hertz",
        f"is {given}; it must be {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}.",
        "UNSUPPORTED_SAMPLE_RATE",
    )
