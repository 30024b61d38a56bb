"""Samples of single-sample codecs (PCM, G.711) decoded to mono by FFmpeg; frames of any codec averaged to mono."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from av import AudioCodecContext, AudioFrame, CodecContext, Packet
from av.error import FFmpegError
from csm.codec.v1 import codec_pb2

from services.gateway.audio.graph import ConversionGraph
from services.gateway.audio.recording import Recording

LAYOUTS = {1: "mono", 2: "stereo"}

# FFmpeg's name -> bytes per sample, and what it is decoded to without loss.
_CODECS = {
    "pcm_u8": (1, "s16"),
    "pcm_s16le": (2, "s16"),
    "pcm_s24le": (3, "flt"),
    "pcm_s32le": (4, "flt"),
    "pcm_f32le": (4, "flt"),
    "pcm_alaw": (1, "s16"),
    "pcm_mulaw": (1, "s16"),
}
SAMPLE_BYTES = {"s16": 2, "flt": 4}  # of what it is decoded to
_AS_THEY_ARE = ("pcm_s16le", "pcm_f32le")
_ANY_HZ = 48_000  # samples are decoded one by one: their rate has no effect
_FORMATS = {"s16": codec_pb2.SAMPLE_FORMAT_S16LE, "flt": codec_pb2.SAMPLE_FORMAT_F32LE}


class UnreadableAudioError(ValueError):
    """Audio that cannot be decoded; the message completes a sentence that begins with its field."""


class AudioTooLongError(UnreadableAudioError):
    """Audio that lasts longer than is allowed, which shows only while it is decoded."""


def words_of(error: FFmpegError) -> str:
    """FFmpeg's words for an error. Some have none, such as those of its parser of AAC; it names them by a number."""
    words = error.strerror or ""
    return words if words and not words.startswith("Error number") else "its frames are damaged"


def decode_samples(codec: str, content: bytes, channel_count: int, sample_rate_hz: int) -> Recording:
    """Headerless samples. codec: FFmpeg's name, such as "pcm_mulaw"; channel_count: one of LAYOUTS

    Half a sample at the end is left out. The rate is passed on as it is, right or wrong.
    """
    size, to_format = _CODECS[codec]
    whole = content[: len(content) - len(content) % (size * channel_count)]
    if not whole or (channel_count == 1 and codec in _AS_THEY_ARE):
        return Recording(whole, _FORMATS[to_format], sample_rate_hz)
    decoder = CodecContext.create(codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = _ANY_HZ, LAYOUTS[channel_count]
    return Recording(
        b"".join(mono_pieces(decoder.decode(Packet(whole)), to_format)), _FORMATS[to_format], sample_rate_hz
    )


def sample_format_of(codec: str) -> tuple[int, str]:
    """Bytes of one coded sample, and FFmpeg's name of what it is decoded to. codec: FFmpeg's name"""
    return _CODECS[codec]


def mono_pieces(frames: Iterable[AudioFrame], to_format: str) -> Iterator[bytes]:
    """Frames of one kind as mono samples. Channels are averaged: two equal ones are as loud as one."""
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        return
    if first.layout.nb_channels not in LAYOUTS:
        raise UnreadableAudioError(f"has {first.layout.nb_channels} channels; it must be mono or stereo.")
    rate, layout = first.sample_rate, first.layout.name
    graph = ConversionGraph(rate, first.format.name, layout, rate, to_format, rematrix_maxval="1.0")
    for frame in chain((first,), frames):
        if (frame.layout.name, frame.sample_rate) != (layout, rate):
            raise UnreadableAudioError("changes its channels or its sample rate; both must stay the same.")
        yield graph.push(frame)
    yield graph.push(None)
