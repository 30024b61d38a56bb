"""Recordings decoded to mono samples by FFmpeg: single-sample codecs (PCM, G.711) and Ogg Opus. Stereo is averaged."""

from __future__ import annotations

import io
from collections.abc import Iterable

import av
from av import AudioCodecContext, AudioFrame, CodecContext, Packet
from av.error import FFmpegError
from csm.codec.v1 import codec_pb2

from services.gateway.audio.graph import ConversionGraph
from services.gateway.audio.recording import Recording

LAYOUTS = {1: "mono", 2: "stereo"}
MAX_OPUS_SECONDS = 300.0  # a few bytes of Opus can last minutes

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
_AS_THEY_ARE = ("pcm_s16le", "pcm_f32le")
_ANY_HZ = 48_000  # samples are decoded one by one: their rate matters to nobody
_FORMATS = {"s16": codec_pb2.SAMPLE_FORMAT_S16LE, "flt": codec_pb2.SAMPLE_FORMAT_F32LE}


class UnreadableAudioError(ValueError):
    """Audio that cannot be decoded; the message is the end of a sentence that begins with its field."""


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
    return Recording(_to_mono(decoder.decode(Packet(whole)), to_format), _FORMATS[to_format], sample_rate_hz)


def decode_ogg_opus(content: bytes) -> Recording:
    """Samples at 48 kHz. Raises UnreadableAudioError."""
    try:
        # Titles and the like may be in any encoding; nobody here reads them.
        with av.open(io.BytesIO(content), "r", format="ogg", metadata_errors="replace") as container:
            streams = container.streams.audio
            if len(container.streams) != 1 or not streams or streams[0].codec_context.name != "opus":
                raise UnreadableAudioError("is not one Opus stream in an Ogg container.")
            samples = _to_mono(_limited(container.decode(streams[0])), "s16")
            return Recording(samples, codec_pb2.SAMPLE_FORMAT_S16LE, streams[0].rate)
    except FFmpegError as error:
        raise UnreadableAudioError(f"is not Ogg Opus that can be read: {error.strerror}.") from None


def _limited(frames: Iterable[AudioFrame]) -> Iterable[AudioFrame]:
    seconds = 0.0
    for frame in frames:
        seconds += frame.samples / frame.sample_rate
        if seconds > MAX_OPUS_SECONDS:
            raise UnreadableAudioError(f"lasts more than {MAX_OPUS_SECONDS:g} s.")
        yield frame


def _to_mono(frames: Iterable[AudioFrame], to_format: str) -> bytes:
    """Joins frames of one kind. Channels are averaged: two equal ones are as loud as one."""
    graph: ConversionGraph | None = None
    first: AudioFrame | None = None
    pieces: list[bytes] = []
    for frame in frames:
        if graph is None or first is None:
            if frame.layout.nb_channels not in LAYOUTS:
                raise UnreadableAudioError(f"has {frame.layout.nb_channels} channels; it must be mono or stereo.")
            rate, layout = frame.sample_rate, frame.layout.name
            graph = ConversionGraph(rate, frame.format.name, layout, rate, to_format, rematrix_maxval="1.0")
            first = frame
        if (frame.layout.name, frame.sample_rate) != (first.layout.name, first.sample_rate):
            raise UnreadableAudioError("changes its channels or its sample rate on the way.")
        pieces.append(graph.push(frame))
    if graph is not None:
        pieces.append(graph.push(None))
    return b"".join(pieces)
