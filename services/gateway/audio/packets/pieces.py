"""A recording of packets as a sequence of short pieces. It is parsed as it comes; its tags are read and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from av import AudioCodecContext, AudioFrame, CodecContext
from av.error import FFmpegError

from services.gateway.audio.decoders import UnreadableAudioError, words_of
from services.gateway.audio.packets.formats import PacketFormat
from services.gateway.audio.pieces import PIECE_BYTES, gathered
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import ReadableFile

MOST_UNPARSED_BYTES = 4 * 1024 * 1024  # without a packet; the largest packets are those of FLAC


def packet_pieces(packets: PacketFormat, file: ReadableFile) -> Iterator[Recording]:
    """16-bit samples at the recording's own rate, with the delay and padding of its encoder.

    Raises UnreadableAudioError.
    """
    try:
        yield from gathered(_frames(packets, file))
    except FFmpegError as error:
        raise UnreadableAudioError(f"is not {packets.name} that can be read: {words_of(error)}.") from None


def _frames(packets: PacketFormat, file: ReadableFile) -> Iterator[AudioFrame]:
    start, extradata = packets.read_start(file)
    codec = CodecContext.create(packets.decoder, "r")
    assert isinstance(codec, AudioCodecContext)
    codec.thread_count = 1
    if extradata:
        codec.extradata = extradata
    unparsed = 0
    for content in chain((start,) if start else (), iter(lambda: file.read(PIECE_BYTES), b"")):
        parsed = codec.parse(content)
        unparsed = 0 if parsed else unparsed + len(content)
        if unparsed > MOST_UNPARSED_BYTES:
            raise UnreadableAudioError(f"is not {packets.name} that can be read: it holds no frames.")
        for packet in parsed:
            yield from codec.decode(packet)
    while parsed := codec.parse(None):  # one packet at a time
        for packet in parsed:
            yield from codec.decode(packet)
    yield from codec.decode(None)
