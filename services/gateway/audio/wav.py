"""WAV files: their containers written and read; samples are decoded elsewhere. It knows no request and no stage.

Written: 44-byte header, 16-bit PCM. Read: PCM of 8 to 32 bits, 32-bit float, mu-law and A-law, mono or stereo, also
with the unknown lengths (0xFFFFFFFF) of a stream. Format: Multimedia Programming Interface and Data Specifications 1.0
(RIFF WAVE).
"""

from __future__ import annotations

import struct

from services.gateway.audio.decoders import LAYOUTS, UnreadableAudioError, decode_samples
from services.gateway.audio.recording import Recording

UNKNOWN_LENGTH = 0xFFFFFFFF
HEADER_SIZE = 44
_PCM, _EXTENSIBLE = 1, 0xFFFE

# Format tag and bits per sample -> FFmpeg's name of the codec.
_CODECS = {
    (1, 8): "pcm_u8",
    (1, 16): "pcm_s16le",
    (1, 24): "pcm_s24le",
    (1, 32): "pcm_s32le",
    (3, 32): "pcm_f32le",
    (6, 8): "pcm_alaw",
    (7, 8): "pcm_mulaw",
}


class WavError(UnreadableAudioError):
    """Bytes that are not a WAV file of a kind that is read here; the message says why."""


def wav_header(sample_rate_hz: int, sample_count: int | None) -> bytes:
    """Header of mono 16-bit samples.

    sample_count: None when it is not known yet; the lengths are then 0xFFFFFFFF
    """
    data_size = UNKNOWN_LENGTH if sample_count is None else 2 * sample_count
    riff_size = UNKNOWN_LENGTH if sample_count is None else data_size + HEADER_SIZE - 8
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", riff_size, b"WAVE"),
        *(b"fmt ", 16, _PCM, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16),
        *(b"data", data_size),
    )


def read_wav(content: bytes) -> Recording:
    """Raises WavError with a sentence that says what is allowed."""
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError("is not a WAV file: it does not start with RIFF and WAVE.")
    layout: tuple[int, int, int, int] | None = None  # format tag, channels, rate, bits
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"fmt ":
            layout = _read_layout(content, position, size)
        elif name == b"data":
            if layout is None:
                raise WavError("has no 'fmt ' chunk before its samples.")
            return _recording(content[position : position + size], *layout)
        position += size + size % 2  # chunks are padded to even sizes
    raise WavError("holds no 'data' chunk.")


def _read_layout(content: bytes, position: int, size: int) -> tuple[int, int, int, int]:
    if size < 16 or position + size > len(content):
        raise WavError("ends inside its 'fmt ' chunk.")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content, position)
    if tag == _EXTENSIBLE and size >= 26:
        (tag,) = struct.unpack_from("<H", content, position + 24)  # first bytes of the subformat's id
    return tag, channels, rate, bits


def _recording(samples: bytes, tag: int, channels: int, rate: int, bits: int) -> Recording:
    if (tag, bits) not in _CODECS:
        raise WavError(
            f"holds {bits}-bit samples of format {tag}; PCM of 8, 16, 24 and 32 bits, 32-bit float, mu-law and A-law"
            " are read."
        )
    if channels not in LAYOUTS:
        raise WavError(f"has {channels} channels; it must be mono or stereo.")
    return decode_samples(_CODECS[tag, bits], samples, channels, rate)
