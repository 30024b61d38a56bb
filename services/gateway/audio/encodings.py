"""The table of encodings: content type, file suffixes, sample rates, size, encoder and decoder of each.

Everything about encodings is read from it. Tests compare docs/requests.md and the Python client's table with it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from csm.v1 import tts_pb2

from services.gateway.audio.decoders import sample_format_of
from services.gateway.audio.encoded import AudioEncoder
from services.gateway.audio.g711 import ALAW, G711, MULAW
from services.gateway.audio.ogg_opus import OPUS_BIT_RATES, OggOpusEncoder, opus_bytes_per_second
from services.gateway.audio.packets.encoder import PacketEncoder
from services.gateway.audio.packets.formats import (
    AAC,
    FLAC,
    FLAC_FRAMES_HZ,
    MP3,
    PacketFormat,
    aac_bytes_per_second,
    flac_bytes_per_second,
    flac_header,
    mp3_bytes_per_second,
)
from services.gateway.audio.packets.pieces import packet_pieces
from services.gateway.audio.pieces import ogg_opus_pieces, sample_pieces, wav_pieces
from services.gateway.audio.recording import Recording
from services.gateway.audio.resampling.continuation import (
    ContinuedResampler,
    LastSamples,
    Place,
    can_continue,
    kept_samples,
)
from services.gateway.audio.resampling.resampler import Resampler, open_resampler
from services.gateway.audio.sample_encoder import SampleEncoder
from services.gateway.audio.wav import ReadableFile, WavHeader, read_wav_header, wav_header

SAMPLE_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def _no_header(sample_rate_hz: int, sample_count: int | None) -> bytes:
    return b""


def _nothing_to_skip(encoder: AudioEncoder, sample_count: int) -> None:
    return None


def _skip_packets(encoder: AudioEncoder, sample_count: int) -> None:
    assert isinstance(encoder, PacketEncoder)
    encoder.skip(sample_count)


def _unknown_layout(content: bytes, channel_count: int, sample_rate_hz: int) -> WavHeader | None:
    return None


@dataclass(frozen=True, slots=True)
class Encoding:
    """One row of the table."""

    content_type: str
    suffixes: tuple[str, ...]  # file suffixes, the usual one first
    bytes_per_second: Callable[[int], int]  # from a sample rate; an upper bound over one second or more
    open_encoder: Callable[[Resampler, int, int], AudioEncoder]  # from a resampler, its rate and a serial number
    open_pieces: Callable[[ReadableFile, int, int], Iterator[Recording]]  # from a file, its channels and its rate
    # From content, channels and rate: the layout of a whole recording, without decoding it.
    read_layout: Callable[[bytes, int, int], WavHeader | None] = _unknown_layout
    # From a rate and a number of samples, None if unknown: the container header.
    header: Callable[[int, int | None], bytes] = _no_header
    sample_rates_hz: tuple[int, ...] | None = None  # None: any of SAMPLE_RATES_HZ, and the model's own
    is_headerless: bool = False  # the caller must state rate and channels of a recording
    # Makes a new encoder continue after so many samples of another one, bit for bit; None: the encoding cannot resume.
    skip: Callable[[AudioEncoder, int], None] | None = None
    lag_s: float = 0.0  # most audio that a resumable encoder holds back, in addition to the resampler


def _headerless(codec: str, pack: Callable[[int], Callable[[bytes], bytes]], **names: object) -> Encoding:
    """codec: FFmpeg's name; pack: from a sample rate, a function that packs 16-bit samples"""
    size, _ = sample_format_of(codec)
    return Encoding(
        **names,  # type: ignore[arg-type]
        bytes_per_second=lambda sample_rate_hz: size * sample_rate_hz,
        open_encoder=lambda resampler, sample_rate_hz, serial: SampleEncoder(resampler, pack(sample_rate_hz)),
        open_pieces=lambda file, channel_count, rate_hz: sample_pieces(codec, file, channel_count, rate_hz),
        read_layout=lambda content, channel_count, rate_hz: WavHeader(codec, channel_count, rate_hz, len(content)),
        is_headerless=True,
        skip=_nothing_to_skip,
    )


def _packets(packets: PacketFormat, **names: object) -> Encoding:
    return Encoding(
        **names,  # type: ignore[arg-type]
        sample_rates_hz=tuple(sorted(packets.bit_rates)) or None,
        open_encoder=lambda resampler, sample_rate_hz, serial: PacketEncoder(packets, resampler, sample_rate_hz),
        open_pieces=lambda file, channel_count, rate_hz: packet_pieces(packets, file),
    )


def _unchanged(samples: bytes) -> bytes:
    return samples


ENCODINGS: Mapping[tts_pb2.AudioEncoding, Encoding] = {
    tts_pb2.AUDIO_ENCODING_PCM: _headerless(
        "pcm_s16le", lambda _: _unchanged, content_type="application/octet-stream", suffixes=(".raw", ".pcm")
    ),
    tts_pb2.AUDIO_ENCODING_WAV: Encoding(
        content_type="audio/wav",
        suffixes=(".wav",),
        bytes_per_second=lambda sample_rate_hz: 2 * sample_rate_hz,
        open_encoder=lambda resampler, sample_rate_hz, serial: SampleEncoder(resampler, _unchanged),
        header=wav_header,
        open_pieces=lambda file, channel_count, rate_hz: wav_pieces(file),
        read_layout=lambda content, channel_count, rate_hz: read_wav_header(io.BytesIO(content)),
        skip=_nothing_to_skip,
    ),
    tts_pb2.AUDIO_ENCODING_OGG_OPUS: Encoding(
        content_type="audio/ogg; codecs=opus",
        suffixes=(".ogg", ".opus"),
        sample_rates_hz=tuple(sorted(OPUS_BIT_RATES)),
        bytes_per_second=opus_bytes_per_second,
        open_encoder=OggOpusEncoder,
        open_pieces=lambda file, channel_count, rate_hz: ogg_opus_pieces(file),
    ),
    tts_pb2.AUDIO_ENCODING_MULAW: _headerless(
        MULAW, lambda rate_hz: G711(MULAW, rate_hz).pack, content_type="audio/basic", suffixes=(".ulaw",)
    ),
    tts_pb2.AUDIO_ENCODING_ALAW: _headerless(
        ALAW, lambda rate_hz: G711(ALAW, rate_hz).pack, content_type="audio/x-alaw-basic", suffixes=(".alaw",)
    ),
    tts_pb2.AUDIO_ENCODING_MP3: _packets(
        MP3, content_type="audio/mpeg", suffixes=(".mp3",), bytes_per_second=mp3_bytes_per_second
    ),
    tts_pb2.AUDIO_ENCODING_AAC: _packets(
        AAC, content_type="audio/aac", suffixes=(".aac",), bytes_per_second=aac_bytes_per_second
    ),
    tts_pb2.AUDIO_ENCODING_FLAC: _packets(
        FLAC,
        content_type="audio/flac",
        suffixes=(".flac",),
        bytes_per_second=flac_bytes_per_second,
        header=flac_header,
        skip=_skip_packets,
        lag_s=1 / FLAC_FRAMES_HZ,
    ),
}


def encoding_name(value: tts_pb2.AudioEncoding) -> str:
    """Name of an encoding, also of one that this server does not know."""
    known = tts_pb2.AudioEncoding.values()
    return tts_pb2.AudioEncoding.Name(value) if value in known else f"the unknown encoding {value}"


def sample_rates_hz(encoding: tts_pb2.AudioEncoding, natural_hz: int) -> list[int]:
    """The rates of an encoding, in order. natural_hz: the model's own rate, which needs no resampling"""
    rates_hz = ENCODINGS[encoding].sample_rates_hz
    return sorted({*SAMPLE_RATES_HZ, natural_hz}) if rates_hz is None else list(rates_hz)


def can_resume(encoding: tts_pb2.AudioEncoding, from_hz: int, to_hz: int) -> bool:
    """Whether an encoder can continue at a place in a stream. The rates are those of `open_encoder`."""
    row = ENCODINGS[encoding]
    return row.skip is not None and can_continue(from_hz, to_hz, row.lag_s)


def samples_before(encoding: tts_pb2.AudioEncoding, from_hz: int, to_hz: int) -> int:
    """Samples before a place that an encoder needs to continue there. The arguments are those of `open_encoder`."""
    return kept_samples(from_hz, to_hz, ENCODINGS[encoding].lag_s)


def open_last_samples(encoding: tts_pb2.AudioEncoding, from_hz: int, to_hz: int, place: Place | None) -> LastSamples:
    """Keeps the samples that a Place needs. The arguments are those of `open_encoder`."""
    return LastSamples(from_hz, to_hz, ENCODINGS[encoding].lag_s, b"" if place is None else place.last_samples)


def open_encoder(
    encoding: tts_pb2.AudioEncoding, from_hz: int, to_hz: int, serial: int, place: Place | None = None
) -> AudioEncoder:
    """An encoder for one utterance. It writes no container header: that depends on where the audio goes.

    from_hz: rate of the samples; to_hz: rate of the audio, one of `sample_rates_hz`; serial: differs between streams
    that may be joined. place: where it continues after another encoder, if it `can_resume`; None is the start
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"There is no encoder for {encoding}.")
    row = ENCODINGS[encoding]
    if place is None:
        return row.open_encoder(open_resampler(from_hz, to_hz), to_hz, serial)
    if row.skip is None:
        raise ValueError(f"No encoder goes on after another one for {encoding_name(encoding)}.")
    encoder = row.open_encoder(ContinuedResampler(from_hz, to_hz, place), to_hz, serial)
    row.skip(encoder, place.sent_samples)
    return encoder
