"""Decodes a recording of any format piece by piece, in constant memory.

The file may block, so these run in a thread. Invalid content raises UnreadableAudioError.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from itertools import chain

import av
from av import AudioFrame
from av.error import FFmpegError
from csm.codec.v1 import codec_pb2

from services.gateway.audio.decoders import (
    AudioTooLongError,
    UnreadableAudioError,
    decode_samples,
    mono_pieces,
    sample_format_of,
    words_of,
)
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import ReadableFile, WavHeader, read_wav_header

PIECE_BYTES = 48_000  # read at once; a multiple of the size of a sample of all channels
_MIN_SAMPLES = 4800  # of a piece, into which the short frames of compressed audio are gathered


def sample_pieces(codec: str, file: ReadableFile, channel_count: int, sample_rate_hz: int) -> Iterator[Recording]:
    """Headerless samples. codec: FFmpeg's name. Raises UnreadableAudioError for half a sample at the end."""
    rest = yield from _decoded(WavHeader(codec, channel_count, sample_rate_hz, sys.maxsize), file)
    if rest:
        block = sample_format_of(codec)[0] * channel_count
        raise UnreadableAudioError(f"ends with {len(rest)} bytes, which are not a whole {block}-byte sample.")


def wav_pieces(file: ReadableFile) -> Iterator[Recording]:
    """Raises WavError. Half a sample at the end is left out, as a stream that was cut off may have one."""
    yield from _decoded(read_wav_header(file), file)
    while file.read(PIECE_BYTES):  # content after the samples is read and dropped, so that its sender can finish
        pass


def _decoded(layout: WavHeader, file: ReadableFile) -> Generator[Recording, None, bytes]:
    """The samples up to the end of the data or of the file. Returns the rest, which is no whole sample."""
    block = sample_format_of(layout.codec)[0] * layout.channel_count
    left, rest = layout.data_size, b""
    while left > 0 and (content := file.read(min(PIECE_BYTES, left))):
        left -= len(content)
        content = rest + content
        whole = len(content) - len(content) % block
        rest = content[whole:]
        if whole:
            yield decode_samples(layout.codec, content[:whole], layout.channel_count, layout.sample_rate_hz)
    return rest


def ogg_opus_pieces(file: ReadableFile) -> Iterator[Recording]:
    """Samples at 48 kHz. Raises UnreadableAudioError."""
    try:
        # Titles and other metadata may be in any encoding; they are not read.
        with av.open(_OnlyRead(file), "r", format="ogg", metadata_errors="replace") as container:
            streams = container.streams.audio
            if len(container.streams) != 1 or not streams or streams[0].codec_context.name != "opus":
                raise UnreadableAudioError("is not one Opus stream in an Ogg container.")
            yield from gathered(container.decode(streams[0]))
    except FFmpegError as error:
        raise UnreadableAudioError(f"is not Ogg Opus that can be read: {words_of(error)}.") from None


def gathered(frames: Iterable[AudioFrame]) -> Iterator[Recording]:
    """Frames of one kind, which may be short, as mono 16-bit pieces. Raises UnreadableAudioError."""
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        return
    joined = bytearray()
    for samples in mono_pieces(chain((first,), frames), "s16"):
        joined += samples
        if len(joined) >= 2 * _MIN_SAMPLES:
            yield Recording(bytes(joined), codec_pb2.SAMPLE_FORMAT_S16LE, first.sample_rate)
            joined.clear()
    if joined:
        yield Recording(bytes(joined), codec_pb2.SAMPLE_FORMAT_S16LE, first.sample_rate)


class _OnlyRead:
    """Not seekable, so that the library does not try."""

    def __init__(self, file: ReadableFile) -> None:
        self.read = file.read


def joined(pieces: Iterable[Recording], max_seconds: float) -> Recording:
    """All pieces as one recording. Raises AudioTooLongError beyond `max_seconds`, without decoding the rest."""
    whole = list(limited(pieces, max_seconds))
    if not whole:
        return Recording(b"", codec_pb2.SAMPLE_FORMAT_S16LE, 0)
    return Recording(b"".join(piece.samples for piece in whole), whole[-1].sample_format, whole[-1].sample_rate_hz)


def up_to(pieces: Iterable[Recording], seconds: float) -> Iterator[Recording]:
    """The pieces up to the first one that goes beyond `seconds`. The rest is not decoded."""
    num_samples = 0
    for piece in pieces:
        yield piece
        num_samples += len(piece.samples) // piece.sample_size
        if num_samples > seconds * piece.sample_rate_hz:
            return


def limited(pieces: Iterable[Recording], max_seconds: float) -> Iterator[Recording]:
    """The pieces. Raises AudioTooLongError at the first one that goes beyond `max_seconds`."""
    num_samples = 0
    for piece in pieces:
        num_samples += len(piece.samples) // piece.sample_size
        if num_samples > max_seconds * piece.sample_rate_hz:
            raise AudioTooLongError(f"lasts more than {max_seconds:g} s, which is the most allowed.")
        yield piece
