"""WAV files, read and written."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from csm.codec.v1 import codec_pb2

from services.codec.settings import CodecSettings
from services.gateway.audio.pieces import joined, wav_pieces
from services.gateway.audio.recording import Recording
from services.gateway.audio.wav import MAX_CHUNKS, WavError, wav_header
from services.gateway.settings import GatewaySettings

S16, F32 = codec_pb2.SAMPLE_FORMAT_S16LE, codec_pb2.SAMPLE_FORMAT_F32LE


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(fmt: bytes, samples: bytes, *before: bytes) -> bytes:
    body = b"WAVE" + chunk(b"fmt ", fmt) + b"".join(before) + chunk(b"data", samples)
    return chunk(b"RIFF", body)


def read_wav(content: bytes) -> Recording:
    return joined(wav_pieces(io.BytesIO(content)), 3600)


def fmt(tag: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16) -> bytes:
    return struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)


def test_file_of_the_standard_library_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 22_050, 3, "NONE", ""))
        writer.writeframes(b"abcdef")
    recording = read_wav(file.getvalue())
    assert (recording.samples, recording.sample_format, recording.sample_rate_hz) == (b"abcdef", S16, 22_050)


def test_float_and_extensible_files_are_read() -> None:
    floats = read_wav(wav(fmt(tag=3, bits=32), struct.pack("<2f", 0.5, -0.5)))
    assert (floats.sample_format, len(floats.samples), floats.duration_s) == (F32, 8, 2 / 16_000)
    guid_tail = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    extensible = fmt(tag=0xFFFE) + struct.pack("<HHIH", 22, 16, 4, 1) + guid_tail
    assert read_wav(wav(extensible, b"abcd")).sample_format == S16


def test_other_chunks_and_odd_sizes_are_skipped() -> None:
    assert read_wav(wav(fmt(), b"abcd", chunk(b"LIST", b"odd"))).samples == b"abcd"


def test_the_padding_of_an_odd_format_chunk_is_skipped() -> None:
    assert read_wav(wav(fmt() + b"\0", b"abcd")).samples == b"abcd"


def test_stream_of_unknown_length_is_read_to_its_end() -> None:
    assert read_wav(wav_header(24_000, None) + b"abcdef").samples == b"abcdef"


def test_half_a_sample_at_the_end_is_left_out() -> None:
    assert read_wav(wav_header(24_000, None) + b"abcde").samples == b"abcd"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a WAV file"),
        (b"RIFF\0\0\0\0AVI ", "not a WAV file"),
        (b"\0\0\0 ftypM4A ", r"A file may be WAV, Ogg Opus, MP3, AAC \(ADTS, not .m4a\) or FLAC\.$"),
        (wav(fmt(channels=3), b"abcdef"), "3 channels; it must be mono or stereo"),
        (wav(fmt(bits=12), b"abcdef"), "12-bit samples of format 1"),
        (wav(fmt(tag=17, bits=4), b"abcd"), "4-bit samples of format 17"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"data", b"abcd"), "no 'fmt ' chunk before"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", fmt()), "no 'data' chunk"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0ab", "ends inside"),
    ],
)
def test_unreadable_file_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(WavError, match=sentence):
        read_wav(content)


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (7, 8)])
def test_recording_that_the_gateway_takes_fits_into_a_message_to_the_codec(tag: int, bits: int) -> None:
    """Its samples are larger than the file."""
    room = {
        stage: stage.model_fields["max_receive_message_bytes"].default for stage in (GatewaySettings, CodecSettings)
    }
    read = read_wav(wav(fmt(tag, bits=bits), bytes(room[GatewaySettings])))
    assert len(read.samples) < room[CodecSettings]
    longest_s = GatewaySettings.model_fields["max_recording_seconds"].default
    assert longest_s * 48_000 * 2 < room[CodecSettings]  # of Opus, whose bytes say little about its length


def test_header_of_endless_chunks_is_refused() -> None:
    assert read_wav(wav(fmt(), b"abcd", *[chunk(b"junk", b"")] * (MAX_CHUNKS - 2))).samples == b"abcd"
    with pytest.raises(WavError, match=f"more than {MAX_CHUNKS} chunks"):
        read_wav(wav(fmt(), b"abcd", *[chunk(b"junk", b"")] * MAX_CHUNKS))
