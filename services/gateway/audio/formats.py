"""Which encodings are made, at which sample rates and at what size. A table; it encodes nothing.

Opus knows five rates (RFC 6716, section 2); the rest takes any of the usual ones.
"""

from __future__ import annotations

from csm.v1 import tts_pb2

ENCODINGS = (
    tts_pb2.AUDIO_ENCODING_PCM,
    tts_pb2.AUDIO_ENCODING_WAV,
    tts_pb2.AUDIO_ENCODING_OGG_OPUS,
    tts_pb2.AUDIO_ENCODING_MULAW,
    tts_pb2.AUDIO_ENCODING_ALAW,
)
SAMPLE_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

# Bits per second. Speech is transparent at less; the watermark is glad of the rest.
OPUS_BIT_RATES = {8_000: 24_000, 12_000: 32_000, 16_000: 32_000, 24_000: 48_000, 48_000: 64_000}
OPUS_PACKET_MS = 20
_OGG_PAGE_OVERHEAD = 28  # bytes; every packet has a page of its own
_OPUS_MARGIN = 1.1  # the bit rate is an average

_SAMPLE_SIZES = {
    tts_pb2.AUDIO_ENCODING_PCM: 2,
    tts_pb2.AUDIO_ENCODING_WAV: 2,
    tts_pb2.AUDIO_ENCODING_MULAW: 1,
    tts_pb2.AUDIO_ENCODING_ALAW: 1,
}


def encoding_name(value: tts_pb2.AudioEncoding) -> str:
    """Name of an encoding, also of one that this server does not know."""
    known = tts_pb2.AudioEncoding.values()
    return tts_pb2.AudioEncoding.Name(value) if value in known else f"the unknown encoding {value}"


def sample_rates_hz(encoding: tts_pb2.AudioEncoding, natural_hz: int) -> list[int]:
    """The rates of an encoding, in order. natural_hz: the model's own rate, which needs no resampling"""
    if encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS:
        return sorted(OPUS_BIT_RATES)
    return sorted({*SAMPLE_RATES_HZ, natural_hz})


def bytes_per_second(encoding: tts_pb2.AudioEncoding, sample_rate_hz: int) -> int:
    """Size of a second of audio; of Opus a bound that holds for any second or longer."""
    if encoding == tts_pb2.AUDIO_ENCODING_OGG_OPUS:
        packets = OPUS_BIT_RATES[sample_rate_hz] / 8 * _OPUS_MARGIN
        return round(packets + _OGG_PAGE_OVERHEAD * 1000 / OPUS_PACKET_MS)
    return _SAMPLE_SIZES[encoding] * sample_rate_hz
