"""THE client's table of encodings: the protocol's number of each, and its files. It opens no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from csm.v1 import tts_pb2

Encoding = Literal["pcm", "wav", "opus", "mulaw", "alaw", "mp3", "aac", "flac"]


@dataclass(frozen=True, slots=True)
class EncodingFiles:
    """One row of the table.

    suffixes: of files that hold nothing else, the usual one first; file: where audio goes when no name is given;
    starts_with: how its recordings may begin, empty when that does not tell them; container: what its files are called,
    "" for encodings that may be in any file, or in a WAV file
    """

    number: tts_pb2.AudioEncoding
    suffixes: tuple[str, ...]
    file: str
    starts_with: tuple[bytes, ...] = ()
    container: str = ""


ENCODINGS: dict[Encoding, EncodingFiles] = {
    "pcm": EncodingFiles(tts_pb2.AUDIO_ENCODING_PCM, (".raw", ".pcm"), "speech.raw"),
    "wav": EncodingFiles(tts_pb2.AUDIO_ENCODING_WAV, (".wav",), "speech.wav", (b"RIFF",)),
    "opus": EncodingFiles(tts_pb2.AUDIO_ENCODING_OGG_OPUS, (".ogg", ".opus"), "speech.ogg", (b"OggS",), "Ogg Opus"),
    "mulaw": EncodingFiles(tts_pb2.AUDIO_ENCODING_MULAW, (".ulaw",), "speech.wav"),
    "alaw": EncodingFiles(tts_pb2.AUDIO_ENCODING_ALAW, (".alaw",), "speech.wav"),
    # A tag (ID3), or a frame of layer III: of MPEG 1, 2 or 2.5, with and without checksum.
    "mp3": EncodingFiles(
        tts_pb2.AUDIO_ENCODING_MP3,
        (".mp3",),
        "speech.mp3",
        (b"ID3", *(bytes([0xFF, version]) for version in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2))),
        "MP3",
    ),
    "aac": EncodingFiles(
        tts_pb2.AUDIO_ENCODING_AAC,
        (".aac",),
        "speech.aac",
        tuple(bytes([0xFF, version]) for version in (0xF1, 0xF0, 0xF9, 0xF8)),
        "AAC",
    ),
    "flac": EncodingFiles(tts_pb2.AUDIO_ENCODING_FLAC, (".flac",), "speech.flac", (b"fLaC",), "FLAC"),
}


def encoding_of_file(start: bytes) -> tts_pb2.AudioEncoding:
    """Encoding of a recording by its first bytes; WAV when they are unknown, and the server then reports the error."""
    for row in ENCODINGS.values():
        if row.starts_with and start.startswith(row.starts_with):
            return row.number
    return tts_pb2.AUDIO_ENCODING_WAV


def encoding_of_suffix(suffix: str) -> Encoding | None:
    """suffix: such as ".ogg", in either case"""
    return next((name for name, row in ENCODINGS.items() if suffix.lower() in row.suffixes), None)
