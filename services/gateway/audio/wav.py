"""WAV files: their containers written and read; samples are decoded elsewhere. It knows no request and no stage.

Written: 44-byte header, 16-bit PCM. Read: PCM of 8 to 32 bits, 32-bit float, mu-law and A-law, mono or stereo, also
with the unknown lengths (0xFFFFFFFF) of a stream. Format: Multimedia Programming Interface and Data Specifications 1.0
(RIFF WAVE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from services.gateway.audio.decoders import LAYOUTS, UnreadableAudioError

UNKNOWN_LENGTH = 0xFFFFFFFF
HEADER_SIZE = 44
MAX_CHUNKS = 100  # before the samples
_MOST_FORMAT_BYTES = 64  # of a 'fmt ' chunk that are looked at
_SKIPPED_BYTES = 65_536  # at once
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


class ReadableFile(Protocol):
    """Bytes in order. It cannot be sought in."""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, perhaps fewer; b"" at the end. It may block."""


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


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the samples."""

    codec: str  # FFmpeg's name
    channel_count: int
    sample_rate_hz: int
    data_size: int  # bytes of samples; UNKNOWN_LENGTH or too much where a stream did not know


def read_wav_header(file: ReadableFile) -> WavHeader:
    """Reads up to the first sample. Raises WavError with a sentence that says what is allowed."""
    start = read_whole(file, 12)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise WavError(
            "is not a WAV file: it does not start with RIFF and WAVE. A file may be WAV, Ogg Opus, MP3, AAC (ADTS, not"
            " .m4a) or FLAC."
        )
    layout: tuple[int, int, int, int] | None = None  # format tag, channels, rate, bits
    for _ in range(MAX_CHUNKS):
        head = read_whole(file, 8)
        if len(head) < 8:
            raise WavError("holds no 'data' chunk.")
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            if layout is None:
                raise WavError("has no 'fmt ' chunk before its samples.")
            return _header(*layout, data_size=size)
        left = size + size % 2  # chunks are padded to even sizes
        if name == b"fmt ":
            content = read_whole(file, min(size, _MOST_FORMAT_BYTES))
            layout = _read_layout(content)
            left -= len(content)
        skip(file, left)
    raise WavError(f"holds more than {MAX_CHUNKS} chunks before its samples.")


def read_whole(file: ReadableFile, size: int) -> bytes:
    """That many bytes, fewer at the end only."""
    content = b""
    while len(content) < size and (more := file.read(size - len(content))):
        content += more
    return content


def skip(file: ReadableFile, size: int) -> None:
    """Reads that many bytes, fewer at the end only, and drops them."""
    while size > 0 and (skipped := file.read(min(size, _SKIPPED_BYTES))):
        size -= len(skipped)


def _read_layout(content: bytes) -> tuple[int, int, int, int]:
    if len(content) < 16:
        raise WavError("ends inside its 'fmt ' chunk.")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
    if tag == _EXTENSIBLE and len(content) >= 26:
        (tag,) = struct.unpack_from("<H", content, 24)  # first bytes of the subformat's id
    return tag, channels, rate, bits


def _header(tag: int, channels: int, rate: int, bits: int, data_size: int) -> WavHeader:
    if (tag, bits) not in _CODECS:
        raise WavError(
            f"holds {bits}-bit samples of format {tag}; PCM of 8, 16, 24 and 32 bits, 32-bit float, mu-law and A-law"
            " are read."
        )
    if channels not in LAYOUTS:
        raise WavError(f"has {channels} channels; it must be mono or stereo.")
    return WavHeader(_CODECS[tag, bits], channels, rate, data_size)
