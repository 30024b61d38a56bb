"""WAV files, read and written with the standard library. It knows no request and no stage.

Written: 44-byte header, 16-bit PCM. Read: 16-bit PCM or 32-bit float, mono, also with the unknown lengths
(0xFFFFFFFF) of a stream. Format: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE).
"""

from __future__ import annotations

import struct

from csm.codec.v1 import codec_pb2

from services.gateway.plan import Recording

UNKNOWN_LENGTH = 0xFFFFFFFF
HEADER_SIZE = 44
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


class WavError(ValueError):
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
    formats = {(_PCM, 16): codec_pb2.SAMPLE_FORMAT_S16LE, (_FLOAT, 32): codec_pb2.SAMPLE_FORMAT_F32LE}
    if (tag, bits) not in formats:
        raise WavError(f"holds {bits}-bit samples of format {tag}; 16-bit PCM and 32-bit float are read.")
    if channels != 1:
        raise WavError(f"has {channels} channels; it must be mono.")
    whole = len(samples) - len(samples) % (bits // 8)
    return Recording(samples[:whole], formats[tag, bits], rate)
