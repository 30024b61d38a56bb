"""Recordings that callers send: checked and turned into what the codec takes. Any sample rate passes; the codec
resamples. It knows no RPC.
"""

from __future__ import annotations

from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2

from services.common.status import FieldViolation
from services.gateway.plan import Recording
from services.gateway.wav import WavError, read_wav

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 192_000


def read_recording(field: str, recording: tts_pb2.AudioRecording, violations: list[FieldViolation]) -> Recording | None:
    """The samples of `recording`; None after adding to `violations` what is wrong with it."""
    before = len(violations)
    read = _read(field, recording, violations)
    if read is None:
        return None
    if not MIN_SAMPLE_RATE_HZ <= read.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        violations.append(
            FieldViolation(
                f"{field}.audio_format.sample_rate_hertz",
                f"is {read.sample_rate_hz}; it must be {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}.",
                "UNSUPPORTED_SAMPLE_RATE",
            )
        )
    elif not read.samples:
        violations.append(FieldViolation(f"{field}.audio_content", "holds no samples.", "AUDIO_EMPTY"))
    return read if len(violations) == before else None


def _read(field: str, recording: tts_pb2.AudioRecording, violations: list[FieldViolation]) -> Recording | None:
    content, audio_format = recording.audio_content, recording.audio_format
    if audio_format.channel_count not in (0, 1):
        violations.append(
            FieldViolation(
                f"{field}.audio_format.channel_count", f"is {audio_format.channel_count}; recordings must be mono."
            )
        )
        return None
    if audio_format.audio_encoding == tts_pb2.AUDIO_ENCODING_WAV:
        try:
            return read_wav(content)
        except WavError as error:
            violations.append(FieldViolation(f"{field}.audio_content", str(error), "AUDIO_UNREADABLE"))
            return None
    if audio_format.audio_encoding == tts_pb2.AUDIO_ENCODING_PCM:
        if len(content) % 2:
            violations.append(
                FieldViolation(
                    f"{field}.audio_content",
                    f"holds {len(content)} bytes, which is not a whole number of 16-bit samples.",
                    "AUDIO_UNREADABLE",
                )
            )
            return None
        return Recording(content, codec_pb2.SAMPLE_FORMAT_S16LE, audio_format.sample_rate_hertz)
    violations.append(
        FieldViolation(
            f"{field}.audio_format.audio_encoding",
            f"is {encoding_name(audio_format.audio_encoding)}; recordings are read as AUDIO_ENCODING_WAV or,"
            " with their sample rate, as AUDIO_ENCODING_PCM.",
            "UNSUPPORTED_ENCODING",
        )
    )
    return None


def encoding_name(value: tts_pb2.AudioEncoding) -> str:
    """Name of an encoding, also of one that this server does not know."""
    known = tts_pb2.AudioEncoding.values()
    return tts_pb2.AudioEncoding.Name(value) if value in known else f"the unknown encoding {value}"
