"""What is particular to each format: FFmpeg's names, bit rates, sizes, and the bytes before packets and recordings.

Formats: ISO 11172-3 and 13818-3 (MP3), ISO 13818-7 (AAC and its ADTS frames), RFC 9639 (FLAC).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.gateway.audio.decoders import UnreadableAudioError
from services.gateway.audio.wav import ReadableFile, read_whole, skip

# Of each sample rate, bits per second of mono MP3 and AAC. Each is a bit rate that MP3 knows at that rate.
BIT_RATES = {
    8_000: 32_000,
    11_025: 40_000,
    12_000: 40_000,
    16_000: 48_000,
    22_050: 64_000,
    24_000: 64_000,
    32_000: 96_000,
    44_100: 96_000,
    48_000: 96_000,
}
# Samples at the start of what a decoder gives, before the first sample of the speech. None are in FLAC.
MP3_DELAY_SAMPLES = 1105  # LAME's 576, and 529 of a decoder
AAC_DELAY_SAMPLES = 1024  # one frame
FLAC_FRAMES_HZ = 50  # frames of 20 ms

_AAC_FRAME_SAMPLES, _AAC_MOST_BYTES = 1024, 768  # of one channel, and of its frame: 6144 bits
_AAC_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_ADTS_BYTES = 7
_ID3_BYTES, _MAX_TAGS = 10, 16
_STREAM_INFO_BYTES, _MAX_BLOCKS = 34, 128


@dataclass(frozen=True, slots=True)
class PacketFormat:
    """One format."""

    name: str  # in sentences
    encoder: str  # FFmpeg's name, like the next two
    sample_format: str  # that the encoder takes
    decoder: str
    options: Callable[[int], Mapping[str, str]]  # of the encoder, from a sample rate
    # Reads what stands before the packets of a recording. Returns the first bytes of the packets, and what the decoder
    # needs to know before them. Raises UnreadableAudioError.
    read_start: Callable[[ReadableFile], tuple[bytes, bytes]]
    bit_rates: Mapping[int, int] = field(default_factory=dict)  # empty: the encoder's choice
    before_packet: Callable[[int, int], bytes] = lambda sample_rate_hz, size: b""  # from a rate and a packet's size


def mp3_bytes_per_second(sample_rate_hz: int) -> int:
    """A bound that holds for any second or longer: four frames more than the speech, for delay and padding."""
    frame_samples = 576 if sample_rate_hz < 32_000 else 1152
    return round(BIT_RATES[sample_rate_hz] / 8 * (1 + 4 * frame_samples / sample_rate_hz))


def aac_bytes_per_second(sample_rate_hz: int) -> int:
    """A bound that holds for any second or longer. It is twice the usual size: AAC bounds frames, not their average."""
    return round((_AAC_MOST_BYTES + _ADTS_BYTES) * (sample_rate_hz / _AAC_FRAME_SAMPLES + 3))


def flac_bytes_per_second(sample_rate_hz: int) -> int:
    """A bound that holds for any second or longer: frames that could not be made smaller, with their headers."""
    return 2 * sample_rate_hz + 24 * (FLAC_FRAMES_HZ + 2)


def flac_header(sample_rate_hz: int, sample_count: int | None) -> bytes:
    """What a FLAC file begins with. sample_count: None when it is not known yet; the file then states none"""
    block = _flac_block(sample_rate_hz)
    layout = sample_rate_hz << 44 | (16 - 1) << 36 | (sample_count or 0)  # one channel of 16 bits
    sizes = 2 * block.to_bytes(2) + bytes(6)  # of blocks; those of frames are unknown
    info = sizes + layout.to_bytes(8) + bytes(16)  # the digest of the samples is unknown
    return b"fLaC" + b"\x80" + _STREAM_INFO_BYTES.to_bytes(3) + info  # the last block of metadata


def _flac_block(sample_rate_hz: int) -> int:
    return max(16, sample_rate_hz // FLAC_FRAMES_HZ)


def _adts_header(sample_rate_hz: int, size: int) -> bytes:
    """Of one mono AAC-LC frame, without checksum. size: bytes of the frame"""
    low_complexity, mono, any_fullness = 1, 1, 0x7FF
    header = 0xFFF1 << 40 | low_complexity << 38 | _AAC_RATES_HZ.index(sample_rate_hz) << 34 | mono << 30
    return (header | (_ADTS_BYTES + size) << 13 | any_fullness << 2).to_bytes(_ADTS_BYTES)


def _after_tags(file: ReadableFile) -> bytes:
    """Skips ID3v2 tags (id3.org), which may hold pictures of any size. Returns the next ten bytes."""
    for _ in range(_MAX_TAGS):
        start = read_whole(file, _ID3_BYTES)
        if start[:3] != b"ID3" or len(start) < _ID3_BYTES:
            return start
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(start[6:])))
        skip(file, size + (_ID3_BYTES if start[5] & 0x10 else 0))  # a footer
    raise UnreadableAudioError(f"holds more than {_MAX_TAGS} tags before its audio.")


def _mp3_start(file: ReadableFile) -> tuple[bytes, bytes]:
    start = _after_tags(file)
    if len(start) < 2 or start[0] != 0xFF or start[1] & 0xE6 != 0xE2:  # of layer III
        raise UnreadableAudioError("is not MP3: it does not start with an MP3 frame.")
    return start, b""


def _adts_start(file: ReadableFile) -> tuple[bytes, bytes]:
    start = _after_tags(file)
    if len(start) < 2 or start[0] != 0xFF or start[1] & 0xF6 != 0xF0:
        raise UnreadableAudioError("is not AAC in ADTS: it does not start with an ADTS frame.")
    return start, b""


def _flac_start(file: ReadableFile) -> tuple[bytes, bytes]:
    start = _after_tags(file)
    rest = start[4:]  # six bytes of the first block of metadata, which is the stream's description
    size = int.from_bytes(rest[1:4])
    if start[:4] != b"fLaC" or len(rest) < 6 or rest[0] & 0x7F or size != _STREAM_INFO_BYTES:
        raise UnreadableAudioError("is not FLAC: it does not start with fLaC and STREAMINFO.")
    info = rest[4:] + read_whole(file, size - 2)
    is_last = rest[0] & 0x80
    for _ in range(_MAX_BLOCKS):
        if is_last:
            return b"", info
        head = read_whole(file, 4)
        if len(head) < 4:
            raise UnreadableAudioError("is not FLAC that can be read: it ends before its audio.")
        is_last = head[0] & 0x80
        skip(file, int.from_bytes(head[1:]))
    raise UnreadableAudioError(f"holds more than {_MAX_BLOCKS} metadata blocks before its audio.")


MP3 = PacketFormat(
    name="MP3",
    encoder="libmp3lame",
    sample_format="s16p",
    decoder="mp3float",
    options=lambda _: {"reservoir": "0"},  # no frame needs the bits of another
    read_start=_mp3_start,
    bit_rates=BIT_RATES,
)
AAC = PacketFormat(
    name="AAC",
    encoder="aac",
    sample_format="fltp",
    decoder="aac",
    options=lambda _: {"flags": "+bitexact"},  # no version of the library in the audio
    read_start=_adts_start,
    bit_rates=BIT_RATES,
    before_packet=_adts_header,
)
FLAC = PacketFormat(
    name="FLAC",
    encoder="flac",
    sample_format="s16",
    decoder="flac",
    options=lambda sample_rate_hz: {"frame_size": str(_flac_block(sample_rate_hz))},
    read_start=_flac_start,
)
